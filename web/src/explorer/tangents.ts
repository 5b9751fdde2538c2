// The tangent space that a Jacobian spans, as geometry/tangent_spaces.py has it.
import { Matrix, QrDecomposition, SingularValueDecomposition } from "ml-matrix";

export interface TangentSpace {
  /** Orthonormal vectors of P numbers, as many as the rank. */
  basis: Float64Array[];
  /** Directions of the code, of k numbers each, that the decoder stretches most first. */
  directions: Float64Array[];
  singularValues: number[];
  rank: number;
}

/** From the transposed Jacobian (k, P), computed in a precision that says which directions are but rounding. */
export function tangentSpace(transposed: ArrayLike<number>, k: number, precision: string): TangentSpace {
  const pixels = transposed.length / k;
  const jacobian = new Matrix(pixels, k);
  for (let j = 0; j < k; j++) for (let i = 0; i < pixels; i++) jacobian.set(i, j, transposed[j * pixels + i]);
  const qr = new QrDecomposition(jacobian);
  const q = qr.orthogonalMatrix;
  const svd = new SingularValueDecomposition(qr.upperTriangularMatrix, { autoTranspose: true });
  const singularValues = svd.diagonal;
  const rounding = Math.max(pixels * Number.EPSILON, precision === "float64" ? 0 : 1e-5) * singularValues[0];
  const rank = singularValues.filter((value) => value > rounding).length;
  const left = svd.leftSingularVectors;
  const right = svd.rightSingularVectors;
  const basis: Float64Array[] = [];
  const directions: Float64Array[] = [];
  for (let j = 0; j < k; j++) {
    const vector = new Float64Array(pixels);
    for (let i = 0; i < pixels; i++) {
      const row = q.getRow(i);
      let sum = 0;
      for (let n = 0; n < k; n++) sum += row[n] * left.get(n, j);
      vector[i] = sum;
    }
    const strongest = vector.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    const sign = strongest < 0 ? -1 : 1;
    directions.push(Float64Array.from({ length: k }, (_, n) => sign * right.get(n, j)));
    if (j < rank) basis.push(vector);
  }
  return { basis, directions, singularValues, rank };
}

const norm = (v: Float64Array) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));

/** A displacement's tangential and normal component, and its angle to the tangent space; NaN where it is zero. */
export function components(space: TangentSpace, displacement: Float64Array) {
  const tangential = new Float64Array(displacement.length);
  const normal = displacement.slice();
  for (let pass = 0; pass < 2; pass++)
    for (const vector of space.basis) {
      let share = 0;
      for (let i = 0; i < normal.length; i++) share += vector[i] * normal[i];
      for (let i = 0; i < normal.length; i++) {
        tangential[i] += share * vector[i];
        normal[i] -= share * vector[i];
      }
    }
  const angle = displacement.some((x) => x !== 0) ? (Math.atan2(norm(normal), norm(tangential)) * 180) / Math.PI : NaN;
  return { tangential, normal, angle };
}
