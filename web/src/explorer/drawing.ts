// Images on canvases, and the elements around them.
import type { Shape } from "./transformations";

const BELOW = [33, 102, 172]; // blue
const ABOVE = [178, 24, 43]; // red

/**
 * Draw an image of the shape, values channel by channel in [0, 1].
 *
 * With a limit the values are signed: from blue at -limit through white to red, and with three channels about grey.
 */
export function draw(canvas: HTMLCanvasElement, { channels, height, width }: Shape, values: ArrayLike<number>, limit?: number): void {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const data = new ImageData(width, height);
  const plane = width * height;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) {
      const value = values[channels === 3 ? c * plane + i : i];
      let shade = value;
      if (limit !== undefined) {
        const share = limit > 0 ? Math.max(-1, Math.min(1, value / limit)) : 0;
        const end = share < 0 ? BELOW : ABOVE;
        shade = channels === 3 ? 0.5 + share / 2 : (255 - Math.abs(share) * (255 - end[c])) / 255;
      }
      data.data[4 * i + c] = 255 * shade + 0.5;
    }
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d")!.putImageData(data, 0, 0);
}

/** A canvas that a screen reader calls by the label. */
export function picture(label: string): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

export function figure(canvas: HTMLElement, caption: string): HTMLElement {
  const found = document.createElement("figure");
  const words = document.createElement("figcaption");
  words.textContent = caption;
  found.append(canvas, words);
  return found;
}
