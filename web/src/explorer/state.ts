// What the reader has chosen, and the address that holds it.
import type { Sample } from "./decoders";

export interface State {
  a: number;
  b: number;
  t: number;
  path: string;
  direction: string;
  number: number;
  amount: number;
  transformation: number;
  step: number;
  map: string;
  x: number; // of the cursor of the map, from 0 to 1
  y: number;
  shown: string[];
  open: string[];
}

export interface Pair {
  index: number; // of the pair among those whose geodesic is known
  reversed: boolean; // whether it is walked backwards
}

export const PANELS = ["images", "map", "transformation", "decoders"];
const FIRST_SHOWN = 12; // decoders that are shown unless the reader chooses

const able = (sample: Sample) => sample.manifolds.filter((about) => about.exported);

/** The state of an address without choices; the step is that of a transformation. */
export function usual(sample: Sample, transformation = 0): State {
  const [a, b] = sample.pairs[0] ?? [0, Math.min(1, sample.names.length - 1)];
  return {
    a, b, t: 0.5, path: "line", direction: "none", number: 1, amount: 0, transformation: 0,
    step: sample.transformations[transformation]?.step ?? 0, map: able(sample)[0]?.name ?? "", x: 0.5, y: 0.5,
    shown: sample.manifolds.slice(0, FIRST_SHOWN).map((about) => about.name), open: [],
  };
}

/** The state that an address holds; what it lacks, or what is not there, is as usual. */
export function read(hash: string, sample: Sample): State {
  const given = new URLSearchParams(hash.slice(1));
  const whole = (key: keyof State, low: number, high: number) => Math.round(within(key, low, high));
  const within = (key: keyof State, low: number, high: number) => {
    const value = Number(given.get(key) ?? NaN);
    return Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : (otherwise[key] as number);
  };
  const one = (key: keyof State, values: string[]) =>
    values.includes(given.get(key) ?? "") ? given.get(key)! : (otherwise[key] as string);
  const some = (key: "shown" | "open", values: string[]) =>
    given.has(key) ? given.get(key)!.split(",").filter((value) => values.includes(value)) : otherwise[key];
  let otherwise = usual(sample);
  const transformation = whole("transformation", 0, Math.max(0, sample.transformations.length - 1));
  otherwise = usual(sample, transformation);
  const last = sample.names.length - 1;
  const state: State = {
    a: whole("a", 0, last), b: whole("b", 0, last), t: within("t", 0, 1),
    path: one("path", ["line", "geodesic"]), direction: one("direction", ["none", "singular", "latent"]),
    number: whole("number", 1, 1e6), amount: within("amount", -3, 3), transformation, step: within("step", -99, 1e3),
    map: one("map", able(sample).map((about) => about.name)), x: within("x", 0, 1), y: within("y", 0, 1),
    shown: some("shown", sample.manifolds.map((about) => about.name)), open: some("open", PANELS),
  };
  if (pair(state, sample) === undefined) state.path = "line";
  return state;
}

/** The address of a state: what differs from the usual one. */
export function written(state: State, sample: Sample): string {
  const otherwise = usual(sample, state.transformation);
  const held = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    const text = typeof value === "number" ? String(+value.toFixed(4)) : String(value);
    if (text !== String(otherwise[key as keyof State])) held.set(key, text);
  }
  return `#${held}`;
}

/** The pair of both images whose geodesic is known. */
export function pair({ a, b }: State, sample: Sample): Pair | undefined {
  for (const reversed of [false, true]) {
    const [first, second] = reversed ? [b, a] : [a, b];
    const index = sample.pairs.findIndex((ends) => ends[0] === first && ends[1] === second);
    if (index >= 0) return { index, reversed };
  }
  return undefined;
}
