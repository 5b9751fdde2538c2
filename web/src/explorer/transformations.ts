// The transformations of geometry/transformations.py. Pixels are resampled as scipy.ndimage does by default: by the cubic
// spline through the pixels, mirrored at the border, and zero outside.

export interface Shape {
  channels: number;
  height: number;
  width: number;
}

type Plane = Float64Array;
type Move = (plane: Plane, height: number, width: number, step: number) => Plane;

const POLE = Math.sqrt(3) - 2;

/** Coefficients of the cubic spline through n numbers that stand `stride` apart, in place. */
function filter(c: Plane, start: number, stride: number, n: number): void {
  if (n < 2) return;
  const at = (i: number) => start + i * stride;
  for (let i = 0; i < n; i++) c[at(i)] *= (1 - POLE) * (1 - 1 / POLE);
  const last = POLE ** (n - 1);
  let power = POLE;
  let sum = c[at(0)] + last * c[at(n - 1)];
  for (let i = 1; i < n - 1; i++, power *= POLE) sum += power * (c[at(i)] + last * c[at(n - 1 - i)]);
  c[at(0)] = sum / (1 - last * last);
  for (let i = 1; i < n; i++) c[at(i)] += POLE * c[at(i - 1)];
  c[at(n - 1)] = ((POLE * c[at(n - 2)] + c[at(n - 1)]) * POLE) / (POLE * POLE - 1);
  for (let i = n - 2; i >= 0; i--) c[at(i)] = POLE * (c[at(i + 1)] - c[at(i)]);
}

function mirrored(i: number, n: number): number {
  if (n === 1) return 0;
  const period = 2 * (n - 1);
  const j = ((i % period) + period) % period;
  return j < n ? j : period - j;
}

/** Places of the four coefficients around x, and their weights. */
function taps(x: number, n: number): [number[], number[]] {
  const first = Math.floor(x) - 1;
  const t = x - Math.floor(x);
  const weights = [(1 - t) ** 3 / 6, (4 - 6 * t * t + 3 * t ** 3) / 6, 0, t ** 3 / 6];
  weights[2] = 1 - weights[0] - weights[1] - weights[3];
  return [[0, 1, 2, 3].map((i) => mirrored(first + i, n)), weights];
}

/** A plane resampled at `matrix` times the place (down, right) of each pixel plus `offset`. */
function affine(plane: Plane, height: number, width: number, matrix: number[], offset: number[]): Plane {
  const c = plane.slice();
  for (let i = 0; i < width; i++) filter(c, i, width, height);
  for (let i = 0; i < height; i++) filter(c, i * width, 1, width);
  const moved = new Float64Array(plane.length);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const y = offset[0] + row * matrix[0] + column * matrix[1];
      const x = offset[1] + row * matrix[2] + column * matrix[3];
      if (y < 0 || y > height - 1 || x < 0 || x > width - 1) continue;
      const [rows, down] = taps(y, height);
      const [columns, right] = taps(x, width);
      let sum = 0;
      for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) sum += down[i] * right[j] * c[rows[i] * width + columns[j]];
      moved[row * width + column] = sum;
    }
  return moved;
}

/** The same about the centre. */
function about(plane: Plane, height: number, width: number, matrix: number[]): Plane {
  const [y, x] = [(height - 1) / 2, (width - 1) / 2];
  return affine(plane, height, width, matrix, [y - (matrix[0] * y + matrix[1] * x), x - (matrix[2] * y + matrix[3] * x)]);
}

const radians = (degrees: number) => (degrees * Math.PI) / 180;

function blur(plane: Plane, height: number, width: number, step: number): Plane {
  if (!(step > 0)) return plane;
  const radius = Math.floor(4 * step + 0.5);
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-0.5 * ((i - radius) / step) ** 2));
  const total = kernel.reduce((a, b) => a + b);
  const along = (from: Plane, n: number, others: number, stride: number, otherStride: number) => {
    const to = new Float64Array(from.length);
    for (let other = 0; other < others; other++)
      for (let i = 0; i < n; i++) {
        let sum = 0;
        for (let j = Math.max(0, i - radius); j <= Math.min(n - 1, i + radius); j++)
          sum += kernel[j - i + radius] * from[other * otherStride + j * stride];
        to[other * otherStride + i * stride] = sum / total;
      }
    return to;
  };
  return along(along(plane, height, width, width, 1), width, height, 1, width);
}

const MOVES: Record<string, Move> = {
  rotation: (plane, height, width, step) => {
    const [c, s] = [Math.cos(radians(step)), Math.sin(radians(step))];
    return about(plane, height, width, [c, s, -s, c]);
  },
  shift_x: (plane, height, width, step) => affine(plane, height, width, [1, 0, 0, 1], [0, -step]),
  shift_y: (plane, height, width, step) => affine(plane, height, width, [1, 0, 0, 1], [-step, 0]),
  scaling: (plane, height, width, step) =>
    about(plane, height, width, [1 / (1 + step / 100), 0, 0, 1 / (1 + step / 100)]),
  shear: (plane, height, width, step) => about(plane, height, width, [1, 0, Math.tan(radians(step)), 1]),
  brightness: (plane, _height, _width, step) => plane.map((value) => value * (1 + step / 100)),
  contrast: (plane, _height, _width, step) => {
    const mean = plane.reduce((a, b) => a + b) / plane.length;
    return plane.map((value) => mean + (value - mean) * (1 + step / 100));
  },
  blur,
};

/** What a step of a transformation changes in an image (C·H·W). */
export function displacement(name: string, image: ArrayLike<number>, shape: Shape, step: number): Float64Array {
  const { channels, height, width } = shape;
  const change = new Float64Array(image.length);
  for (let channel = 0; channel < channels; channel++) {
    const start = channel * height * width;
    const plane = Float64Array.from({ length: height * width }, (_, i) => image[start + i]);
    const moved = MOVES[name](plane, height, width, step);
    for (let i = 0; i < plane.length; i++) change[start + i] = moved[i] - plane[i];
  }
  return change;
}
