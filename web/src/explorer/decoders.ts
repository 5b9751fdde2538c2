// Decoders of the study in ONNX Runtime, loaded from classic scripts when they are needed.
import { env, InferenceSession, Tensor } from "onnxruntime-web/wasm";
import { components, tangentSpace, type TangentSpace } from "./tangents";

export interface Described {
  name: string;
  latentDim: number;
  exported: boolean;
  withJacobian: boolean;
  precision: string | null;
  angleError: number | null;
  reason: string | null;
}

export interface Sample {
  dataset: string;
  shape: [number, number, number];
  images: string;
  labels: string[];
  names: string[];
  pairs: [number, number][];
  transformations: { name: string; step: number; unit: string; function: string | null }[];
  manifolds: Described[];
  chance: number[];
}

const loaded: Record<string, any> = ((globalThis as any).atlas ??= {});

/** What the script of that name beside the page leaves. */
export async function load(name: string): Promise<any> {
  if (!(name in loaded))
    await new Promise<void>((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `explorer/${name}.js`;
      script.onload = () => resolve();
      script.onerror = () => reject(new Error(`the file explorer/${name}.js is missing beside this page`));
      document.head.append(script);
    });
  return loaded[name];
}

export function bytes(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

const floats = (base64: string) => new Float32Array(bytes(base64).buffer);

let runtime: Promise<void> | undefined;

/** Unpack the runtime, once. */
function started(): Promise<void> {
  return (runtime ??= (async () => {
    const packed = new Blob([bytes(await load("runtime"))]).stream().pipeThrough(new DecompressionStream("gzip"));
    env.wasm.wasmBinary = await new Response(packed).arrayBuffer();
    env.wasm.numThreads = 1;
    env.logLevel = "error";
    delete loaded.runtime;
  })());
}

export class Decoder {
  /** Codes of the images to pick from. */
  readonly codes: Float32Array[];
  /** Points of the geodesic of each pair. */
  readonly geodesics: Float32Array[][];
  readonly centre: Float32Array;
  readonly axes: Float32Array[];
  private session: InferenceSession | undefined;
  private derivative: InferenceSession | undefined;
  private readonly spaces = new Map<string, { image: Float64Array; space: TangentSpace }>();

  private constructor(
    readonly about: Described,
    private readonly data: any,
  ) {
    const k = about.latentDim;
    const rows = (values: Float32Array) =>
      Array.from({ length: values.length / k }, (_, i) => values.subarray(i * k, (i + 1) * k));
    this.codes = rows(floats(data.codes));
    const points = rows(floats(data.geodesics));
    this.geodesics = Array.from({ length: points.length / data.geodesicPoints }, (_, i) =>
      points.slice(i * data.geodesicPoints, (i + 1) * data.geodesicPoints),
    );
    this.centre = floats(data.centre);
    this.axes = rows(floats(data.axes));
  }

  static async load(about: Described): Promise<Decoder> {
    const decoder = new Decoder(about, await load(`decoder_${about.name}`));
    await started();
    decoder.session = await decoder.start(decoder.data.decoder);
    return decoder;
  }

  private start(graph: string): Promise<InferenceSession> {
    const externalData = [{ path: "weights", data: bytes(this.data.weights) }];
    return InferenceSession.create(bytes(graph), { executionProviders: ["wasm"], externalData });
  }

  private tensor(code: ArrayLike<number>): Tensor {
    const dims = [code.length / this.about.latentDim, this.about.latentDim];
    return this.about.precision === "float64"
      ? new Tensor("float64", Float64Array.from(code), dims)
      : new Tensor("float32", Float32Array.from(code), dims);
  }

  /** Codes (N·k numbers) to images (N·C·H·W numbers). */
  async decode(codes: ArrayLike<number>): Promise<Float32Array | Float64Array> {
    return (await this.session!.run({ z: this.tensor(codes) })).x.data as Float32Array | Float64Array;
  }

  /** The image of one code, and the tangent space there. Some are kept. */
  async tangents(code: ArrayLike<number>): Promise<{ image: Float64Array; space: TangentSpace }> {
    const key = Array.prototype.join.call(code, " ");
    let found = this.spaces.get(key);
    if (!found) {
      this.derivative ??= await this.start(this.data.jacobian);
      const { x, j } = await this.derivative.run({ z: this.tensor(code) });
      const space = tangentSpace(j.data as Float32Array, this.about.latentDim, this.about.precision!);
      found = { image: Float64Array.from(x.data as Float32Array), space };
      if (this.spaces.size > 4) this.spaces.delete(this.spaces.keys().next().value!);
      this.spaces.set(key, found);
    }
    return found;
  }

  /** Whether the tangent space at a code is computed already. */
  has(code: ArrayLike<number>): boolean {
    return this.spaces.has(Array.prototype.join.call(code, " "));
  }

  /** The standard deviation of the codes of the sample along a direction. */
  spread(direction: ArrayLike<number>): number {
    const along = this.codes.map((code) => code.reduce((sum, x, i) => sum + x * direction[i], 0));
    const mean = along.reduce((a, b) => a + b, 0) / along.length;
    return Math.sqrt(along.reduce((sum, x) => sum + (x - mean) ** 2, 0) / along.length);
  }
}

export { components };
