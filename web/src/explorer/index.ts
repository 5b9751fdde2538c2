// The explorer: the decoders of the study, run in the page, at one place of their paths between two images.
import { bytes, components, Decoder, load, type Described, type Sample } from "./decoders";
import { draw as drawImage, figure, picture } from "./drawing";
import { pair as pairOf, PANELS, read, usual, written, type State } from "./state";
import { displacement, type Shape } from "./transformations";

const REST = 200; // milliseconds without a change after which Jacobians are computed
const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

async function open(): Promise<void> {
  const sample: Sample = await load("sample");
  const [channels, height, width] = sample.shape;
  const shape: Shape = { channels, height, width };
  const size = channels * height * width;
  const pixels = bytes(sample.images);
  const images = sample.names.map((_, i) => Float32Array.from(pixels.subarray(i * size, (i + 1) * size), (v) => v / 255));
  const able = sample.manifolds.filter((about) => about.exported);
  const decoders = new Map<string, Promise<Decoder>>();
  const decoder = (about: Described) => {
    if (!decoders.has(about.name)) decoders.set(about.name, Decoder.load(about));
    return decoders.get(about.name)!;
  };

  let state: State = usual(sample);
  const pair = () => pairOf(state, sample);
  const draw = (canvas: HTMLCanvasElement, values: ArrayLike<number>, limit?: number) => drawImage(canvas, shape, values, limit);

  /** The address changes when a change has come to rest, since browsers limit how often it may. */
  function remember(): void {
    const hash = written(state, sample);
    if (hash !== (location.hash || "#")) history.replaceState(null, "", hash);
  }

  const called = (index: number) => {
    const [name, label] = [sample.names[index], sample.labels[index]];
    return name.includes("/") ? `${label}, ${name}` : name;
  };

  // ---- one card for each decoder shown

  interface Card {
    about: Described | null; // null: the line of pixels
    canvas: HTMLCanvasElement;
    words: HTMLElement;
  }
  let cards: Card[] = [];
  const spaces = new Map<string, { row: HTMLElement; canvases: HTMLCanvasElement[]; words: HTMLElement; bar: HTMLElement }>();

  function layOut(): void {
    const card = (about: Described | null): Card => {
      const name = about?.name ?? "pixels";
      const canvas = picture(`${name}: the image at the position on the path`);
      const found = figure(canvas, name);
      const words = document.createElement("small");
      words.textContent = about ? `${about.latentDim} dimensions` : "straight line of pixels";
      found.lastElementChild!.append(words);
      element("frames").append(found);
      return { about, canvas, words };
    };
    element("frames").replaceChildren();
    element("spaces").replaceChildren();
    spaces.clear();
    const shown = sample.manifolds.filter((about) => state.shown.includes(about.name));
    cards = [card(null), ...shown.map(card)];
    for (const { about, canvas, words } of cards)
      if (about && !about.exported) {
        canvas.remove();
        words.className = "alarm";
        words.textContent = `This decoder cannot run in a browser. ${about.reason ?? ""}`;
      }
    for (const about of shown) {
      const row = document.createElement("div");
      row.className = "space";
      const head = document.createElement("strong");
      head.textContent = about.name;
      const names = ["transformed image", "displacement", "tangential component", "normal component"];
      const canvases = names.map((name) => picture(`${about.name}: ${name}`));
      const words = document.createElement("div");
      const bar = document.createElement("div");
      bar.className = "bar";
      bar.hidden = true;
      const right = document.createElement("div");
      right.append(words, bar);
      row.append(Object.assign(document.createElement("div"), { className: "name" }));
      row.firstElementChild!.append(head);
      row.append(...canvases.map((canvas, i) => figure(canvas, names[i])), right);
      if (!about.exported || !about.withJacobian) {
        row.querySelectorAll("figure").forEach((each) => each.remove());
        words.textContent = `Angles are not available: ${about.reason ?? "it has no form for a browser"}`;
      }
      element("spaces").append(row);
      spaces.set(about.name, { row, canvases, words, bar });
    }
  }

  // ---- codes

  /** The code at the position on a decoder's path. */
  function onPath(found: Decoder): Float64Array {
    const known = state.path === "geodesic" ? pair() : undefined;
    let [first, second, t] = [found.codes[state.a], found.codes[state.b], state.t];
    if (known) {
      const points = found.geodesics[known.index];
      const place = (known.reversed ? 1 - t : t) * (points.length - 1);
      const before = Math.min(points.length - 2, Math.floor(place));
      [first, second, t] = [points[before], points[before + 1], place - before];
    }
    return Float64Array.from(first, (value, i) => (1 - t) * value + t * second[i]);
  }

  /** The same, pushed; null where a singular direction is asked for that is not computed yet. */
  async function pushed(found: Decoder, rested: boolean): Promise<Float64Array | null> {
    const code = onPath(found);
    if (state.direction === "none" || state.number > found.about.latentDim) return code;
    let direction: Float64Array = new Float64Array(code.length);
    if (state.direction === "latent") direction[state.number - 1] = 1;
    else {
      if (!found.about.withJacobian) return code;
      if (!rested && !found.has(code)) return null;
      direction = (await found.tangents(code)).space.directions[state.number - 1];
    }
    const amount = state.amount * found.spread(direction);
    return code.map((value, i) => value + amount * direction[i]);
  }

  // ---- what is computed after a change

  let changed = 0; // counts changes; what began before the latest is left
  let busy = false;
  let timer = 0;

  async function frame(rested: boolean): Promise<void> {
    const now = changed;
    const missing: string[] = [];
    for (const { about, canvas, words } of cards) {
      if (!about) {
        draw(canvas, images[state.a].map((value, i) => (1 - state.t) * value + state.t * images[state.b][i]));
        continue;
      }
      if (!about.exported) continue;
      try {
        if (!started.has(about.name)) words.textContent = "loading";
        const found = await decoder(about);
        if (!started.has(about.name)) {
          started.add(about.name);
          words.textContent = `${about.latentDim} dimensions`;
        }
        const code = await pushed(found, rested);
        if (!code) missing.push(about.name);
        draw(canvas, await found.decode(code ?? onPath(found)));
        if (state.direction !== "none") {
          const few = state.number > about.latentDim;
          const none = state.direction === "singular" && !about.withJacobian;
          words.textContent = few || none ? `no direction ${state.number}` : `${about.latentDim} dimensions`;
        }
      } catch (error) {
        words.className = "alarm";
        words.textContent = `This decoder does not run here. ${(error as Error).message}`;
        about.exported = false;
      }
      if (rested) {
        await pause();
        if (now !== changed) return;
      }
    }
    say(missing.length ? "Singular directions are computed when the picture rests." : "");
  }
  const started = new Set<string>();
  const pause = () => new Promise((resolve) => setTimeout(resolve));
  const say = (text: string) => {
    if (element("status").textContent !== text) element("status").textContent = text;
  };

  /** Displacements at each decoder's image, and their angles. */
  async function displace(): Promise<void> {
    const now = changed;
    const chosen = sample.transformations[state.transformation];
    if (!chosen) return;
    for (const about of sample.manifolds) {
      const place = spaces.get(about.name);
      if (!place || !about.exported || !about.withJacobian) continue;
      place.bar.hidden = true;
      if (chosen.function === null) {
        place.words.textContent = "A function of the study's own, which the page cannot compute.";
        continue;
      }
      try {
        place.words.textContent = "computing";
        await pause();
        if (now !== changed) return;
        const found = await decoder(about);
        const { image, space } = await found.tangents((await pushed(found, true))!);
        const change = displacement(chosen.function, image, shape, state.step);
        const { tangential, normal, angle } = components(space, change);
        const limit = change.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        draw(place.canvases[0], image.map((value, i) => value + change[i]));
        [change, tangential, normal].forEach((part, i) => draw(place.canvases[i + 1], part, limit));
        const chance = sample.chance[space.rank];
        const unsure = about.angleError !== null && about.angleError > 0.1;
        place.words.textContent = Number.isNaN(angle)
          ? "The image does not change."
          : `Angle ${angle.toFixed(1)}°, chance ${chance.toFixed(1)}°` +
            (unsure ? `; computed here to ${about.angleError!.toFixed(1)}° only` : "");
        place.bar.hidden = Number.isNaN(angle);
        place.bar.replaceChildren(document.createElement("i"), document.createElement("b"));
        (place.bar.firstElementChild as HTMLElement).style.width = `${(angle / 90) * 100}%`;
        (place.bar.lastElementChild as HTMLElement).style.left = `${(chance / 90) * 100}%`;
      } catch (error) {
        place.words.textContent = `Angles are not available: ${(error as Error).message}`;
      }
    }
  }

  /** Draw anew, once a frame of the screen; what takes longer follows after a rest. */
  function update(): void {
    changed++;
    show();
    clearTimeout(timer);
    timer = window.setTimeout(() => void rest(), REST);
    if (!busy) {
      busy = true;
      requestAnimationFrame(() => void run());
    }
  }

  async function run(): Promise<void> {
    const now = changed;
    await frame(false);
    if (now === changed) busy = false;
    else requestAnimationFrame(() => void run());
  }

  async function rest(): Promise<void> {
    remember();
    if (busy) {
      timer = window.setTimeout(() => void rest(), REST);
      return;
    }
    busy = true;
    const now = changed;
    if (state.direction === "singular") await frame(true);
    if (now === changed && element<HTMLDetailsElement>("transformation").open) await displace();
    if (now === changed) busy = false;
    else requestAnimationFrame(() => void run());
  }

  // ---- controls

  let target: "a" | "b" = "a";

  function show(): void {
    element<HTMLInputElement>("t").value = String(state.t);
    element("t-value").textContent = state.t.toFixed(2);
    const known = pair();
    const path = element<HTMLSelectElement>("path");
    path.options[1].disabled = known === undefined;
    path.value = state.path;
    element<HTMLSelectElement>("pair").value = known ? String(known.index) : "";
    element<HTMLSelectElement>("direction").value = state.direction;
    element<HTMLInputElement>("number").value = String(state.number);
    element<HTMLInputElement>("amount").value = String(state.amount);
    element("amount-value").textContent = state.amount.toFixed(2);
    for (const id of ["number", "amount"]) element<HTMLInputElement>(id).disabled = state.direction === "none";
    element<HTMLSelectElement>("function").value = String(state.transformation);
    if (document.activeElement !== element("step")) element<HTMLInputElement>("step").value = String(state.step);
    element("unit").textContent = sample.transformations[state.transformation]?.unit ?? "";
    element<HTMLSelectElement>("map-model").value = state.map;
  }

  function showEnds(): void {
    for (const [id, key] of [["first", "a"], ["second", "b"]] as const) {
      const button = element(id);
      draw(button.querySelector("canvas")!, images[state[key]]);
      button.querySelector("span")!.textContent = called(state[key]);
      button.setAttribute("aria-pressed", String(target === key));
      button.setAttribute("aria-label", `${id} image: ${called(state[key])}`);
    }
    document.querySelectorAll("#thumbnails button").forEach((button, i) => {
      button.setAttribute("aria-pressed", String(i === state.a || i === state.b));
    });
  }

  function choose(index: number): void {
    state[target] = index;
    target = target === "a" ? "b" : "a";
    if (!pair()) state.path = "line";
    showEnds();
    update();
    if (element<HTMLDetailsElement>("map").open) void drawMap();
  }

  const on = (id: string, event: string, act: (value: string) => void) =>
    element(id).addEventListener(event, () => {
      act(element<HTMLInputElement>(id).value);
      update();
    });
  const clamp = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value));

  on("t", "input", (value) => (state.t = Number(value)));
  on("amount", "input", (value) => (state.amount = Number(value)));
  on("path", "change", (value) => (state.path = value));
  on("direction", "change", (value) => (state.direction = value));
  on("number", "input", (value) => (state.number = Math.max(1, Math.round(Number(value) || 1))));
  on("function", "change", (value) => {
    state.transformation = Number(value);
    state.step = sample.transformations[state.transformation].step;
  });
  on("step", "input", (value) => (state.step = clamp(Number(value) || 0, -99, 1000)));
  on("pair", "change", (value) => {
    if (value !== "") [state.a, state.b] = sample.pairs[Number(value)];
    showEnds();
  });
  element("first").addEventListener("click", () => pick("a"));
  element("second").addEventListener("click", () => pick("b"));
  function pick(end: "a" | "b"): void {
    target = end;
    element<HTMLDetailsElement>("images").open = true;
    showEnds();
  }

  const frames = element("frames");
  let grip: { x: number; t: number } | null = null;
  frames.addEventListener("pointerdown", (event) => {
    grip = { x: event.clientX, t: state.t };
    frames.setPointerCapture(event.pointerId);
  });
  frames.addEventListener("pointermove", (event) => {
    if (!grip) return;
    state.t = clamp(grip.t + (event.clientX - grip.x) / (0.6 * frames.clientWidth), 0, 1);
    update();
  });
  for (const event of ["pointerup", "pointercancel"]) frames.addEventListener(event, () => (grip = null));

  document.addEventListener("keydown", (event) => {
    const within = (event.target as HTMLElement).closest("input, select, textarea, summary, #map-canvas");
    const [along, push] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (within || event.ctrlKey || event.altKey || event.metaKey || !(along || (push && state.direction !== "none"))) return;
    event.preventDefault();
    state.t = clamp(state.t + 0.02 * along, 0, 1);
    state.amount = clamp(state.amount + 0.1 * push, -3, 3);
    update();
  });

  // ---- the map

  const map = element<HTMLCanvasElement>("map-canvas");
  let places: [number, number][] = [];

  async function drawMap(): Promise<void> {
    const about = able.find((each) => each.name === state.map);
    if (!about) return;
    const found = await decoder(about);
    const flat = found.codes.map((code) =>
      [0, 1].map((n) => code.reduce((sum, value, i) => sum + (value - found.centre[i]) * (found.axes[n]?.[i] ?? 0), 0)),
    );
    const side = 1.15 * Math.max(1e-9, ...flat.flat().map(Math.abs));
    places = flat.map(([x, y]) => [0.5 + x / (2 * side), 0.5 - y / (2 * side)]);
    const resolution = 960;
    [map.width, map.height] = [resolution, resolution];
    const context = map.getContext("2d")!;
    const small = document.createElement("canvas");
    const thumb = 44;
    places.forEach(([x, y], i) => {
      draw(small, images[i]);
      context.imageSmoothingEnabled = false;
      const [left, top] = [x * resolution - thumb / 2, y * resolution - thumb / 2];
      context.drawImage(small, left, top, thumb, thumb);
      if (i === state.a || i === state.b) {
        context.lineWidth = 5;
        context.strokeStyle = getComputedStyle(map).getPropertyValue("--accent");
        context.strokeRect(left, top, thumb, thumb);
      }
    });
    context.strokeStyle = getComputedStyle(map).getPropertyValue("--alarm");
    context.lineWidth = 3;
    const [x, y] = [state.x * resolution, state.y * resolution];
    context.beginPath();
    context.moveTo(x - 18, y);
    context.lineTo(x + 18, y);
    context.moveTo(x, y - 18);
    context.lineTo(x, y + 18);
    context.stroke();
    const [across, up] = [(state.x - 0.5) * 2 * side, (0.5 - state.y) * 2 * side];
    const code = found.centre.map(
      (value, i) => value + across * (found.axes[0]?.[i] ?? 0) + up * (found.axes[1]?.[i] ?? 0),
    );
    draw(element("map-image"), await found.decode(code));
    element("map-caption").textContent = `${about.name} at (${across.toFixed(2)}, ${up.toFixed(2)}); nearest image: ${called(nearest())}`;
  }

  const nearest = () => {
    const distances = places.map(([x, y]) => Math.hypot(x - state.x, y - state.y));
    return distances.indexOf(Math.min(...distances));
  };
  let mapping = false;
  let mapAgain = false;
  async function point(x: number, y: number): Promise<void> {
    [state.x, state.y] = [clamp(x, 0, 1), clamp(y, 0, 1)];
    mapAgain = true;
    if (mapping) return;
    mapping = true;
    while (mapAgain) {
      mapAgain = false;
      await drawMap();
    }
    mapping = false;
    remember();
  }
  const under = (event: MouseEvent) => {
    const box = map.getBoundingClientRect();
    return point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  map.addEventListener("pointermove", (event) => void under(event));
  map.addEventListener("click", (event) => void under(event).then(() => choose(nearest())));
  map.addEventListener("keydown", (event) => {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Enter" && places.length) choose(nearest());
    else if (x || y) void point(state.x + 0.02 * x, state.y + 0.02 * y);
    else return;
    event.preventDefault();
  });
  on("map-model", "change", (value) => {
    state.map = value;
    void drawMap();
  });

  // ---- lists that the study fills

  const option = (value: string, text: string) => new Option(text, value);
  element("pair").append(option("", "choose"), ...sample.pairs.map(([x, y], i) => option(String(i), `${called(x)} – ${called(y)}`)));
  element("function").append(...sample.transformations.map(({ name }, i) => option(String(i), name.replaceAll("_", " "))));
  element("map-model").append(...able.map(({ name }) => option(name, name)));
  element("thumbnails").append(
    ...images.map((image, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", called(i));
      button.title = called(i);
      const canvas = document.createElement("canvas");
      draw(canvas, image);
      button.append(canvas);
      button.addEventListener("click", () => choose(i));
      return button;
    }),
  );
  element("shown").append(
    ...sample.manifolds.map(({ name }) => {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
      box.addEventListener("change", () => {
        state.shown = [...element("shown").querySelectorAll<HTMLInputElement>("input:checked")].map((each) => each.value);
        layOut();
        update();
      });
      label.append(box, ` ${name}`);
      return label;
    }),
  );
  for (const id of PANELS)
    element(id).addEventListener("toggle", () => {
      state.open = PANELS.filter((panel) => element<HTMLDetailsElement>(panel).open);
      if (id === "map" && state.open.includes("map")) void drawMap();
      update();
    });

  function restart(): void {
    state = read(location.hash, sample);
    for (const box of element("shown").querySelectorAll<HTMLInputElement>("input")) box.checked = state.shown.includes(box.value);
    for (const id of PANELS) element<HTMLDetailsElement>(id).open = state.open.includes(id);
    layOut();
    showEnds();
    update();
  }
  window.addEventListener("hashchange", restart);
  restart();

  // For the browser's console, and for tests: numbers of a decoder by its name.
  const named = (name: string) => {
    const about = sample.manifolds.find((each) => each.name === name);
    if (!about) throw new Error(`no decoder ${name}: there are ${sample.manifolds.map((each) => each.name).join(", ")}`);
    return decoder(about);
  };
  Object.assign((globalThis as any).atlas, {
    decode: async (name: string, codes: ArrayLike<number>) => (await named(name)).decode(codes),
    displacement: (name: string, image: ArrayLike<number>, step: number) => displacement(name, image, shape, step),
    angles: async (name: string, code: ArrayLike<number>) => {
      const { image, space } = await (await named(name)).tangents(code);
      return sample.transformations.map(({ function: known, step }) =>
        known === null ? NaN : components(space, displacement(known, image, shape, step)).angle,
      );
    },
  });
}

// The theme that the reader has chosen on the page of results; a browser may refuse to tell.
try {
  const chosen = localStorage.getItem("latent-atlas-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // the theme of the system
}

open().catch((error: Error) => {
  element("status").className = "note alarm";
  element("status").textContent = `The explorer cannot start: ${error.message}.`;
});
