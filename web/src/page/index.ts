// What the page does beyond showing what it holds: sorting, downloads, theme, links into folded parts, records of the jobs.

type Row = Record<string, string>;

const make = <K extends keyof HTMLElementTagNameMap>(kind: K, text = ""): HTMLElementTagNameMap[K] => {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
};

/** Order of two cells: numbers by their value and before text, text by the alphabet. */
function compare(a: HTMLTableCellElement, b: HTMLTableCellElement): number {
  const [x, y] = [a, b].map((cell) => Number(cell.dataset.value ?? NaN));
  if (Number.isNaN(x!) !== Number.isNaN(y!)) return Number.isNaN(x!) ? 1 : -1;
  if (!Number.isNaN(x!)) return x! - y!;
  return (a.textContent ?? "").localeCompare(b.textContent ?? "", undefined, { numeric: true });
}

function sortBy(table: HTMLTableElement, column: number): void {
  const heads = [...table.tHead!.rows[0]!.cells];
  const up = heads[column]!.getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column]!.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0]!.rows];
  rows.sort((a, b) => (up ? 1 : -1) * compare(a.cells[column]!, b.cells[column]!));
  table.tBodies[0]!.append(...rows);
}

/** A table as CSV: numbers as they were computed, the limits of intervals in columns of their own. */
function asCsv(table: HTMLTableElement): string {
  const heads = [...table.tHead!.rows[0]!.cells].map((cell) => cell.textContent!.trim());
  const body = [...table.tBodies[0]!.rows].map((row) => [...row.cells]);
  const limits = heads.map((_, place) => body.some((cells) => cells[place]!.dataset.low !== undefined));
  const line = (values: string[]): string =>
    values.map((value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value)).join(",");
  const named = heads.flatMap((head, place) => (limits[place] ? [head, `${head} low`, `${head} high`] : [head]));
  const written = body.map((cells) =>
    cells.flatMap((cell, place) => {
      const text = cell.textContent!.trim();
      const value = cell.dataset.value ?? (text === "–" ? "" : text);
      return limits[place] ? [value, cell.dataset.low ?? "", cell.dataset.high ?? ""] : [value];
    }),
  );
  return [named, ...written].map(line).join("\r\n") + "\r\n";
}

const LONG = 24; // letters of a text, from which on it takes the whole width of a stacked row

/** Give each cell the name of its column, which a stacked row shows, and each part its role, which survives the layout. */
function label(table: HTMLTableElement): void {
  const heads = [...table.tHead!.rows[0]!.cells].map((head) => head.textContent!.trim());
  table.setAttribute("role", "table");
  for (const part of [table.tHead!, table.tBodies[0]!]) part.setAttribute("role", "rowgroup");
  for (const row of table.rows) {
    row.setAttribute("role", "row");
    [...row.cells].forEach((cell, place) => {
      cell.setAttribute("role", { col: "columnheader", row: "rowheader" }[cell.scope] ?? "cell");
      if (row.parentElement === table.tHead) return;
      cell.dataset.label = heads[place];
      cell.classList.toggle("words", cell.textContent!.length > LONG && cell.className !== "number");
    });
  }
}

/** A table that is wider than its place gets smaller type; if that is not enough, the cells of each row are stacked. */
const widths = new WeakMap<Element, number>();
const fitting = new ResizeObserver((places) => {
  for (const { target, contentRect } of places) {
    if (contentRect.width === 0 || widths.get(target) === contentRect.width) continue;
    widths.set(target, contentRect.width);
    target.classList.remove("stacked", "tight");
    for (const kind of ["tight", "stacked"]) target.classList.toggle(kind, target.scrollWidth > target.clientWidth);
  }
  reach();
});

function enhance(table: HTMLTableElement): void {
  label(table);
  [...table.tHead!.rows[0]!.cells].forEach((head, column) => {
    const button = make("button", head.textContent!.trim());
    button.type = "button";
    button.addEventListener("click", () => sortBy(table, column));
    head.replaceChildren(button);
  });
  fitting.observe(table.parentElement!);
  const link = make("a", "Download as CSV");
  link.className = "csv";
  link.download = `${(table.closest("section")?.id ?? "table").replace(/-+/g, "-")}.csv`;
  link.href = "#";
  link.addEventListener("click", () => {
    link.href = URL.createObjectURL(new Blob([asCsv(table)], { type: "text/csv;charset=utf-8" }));
  });
  table.parentElement!.after(link);
}

/** Open the folded parts around what a link leads to. */
function reveal(): void {
  const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  for (let part = target; part; part = part.parentElement) if (part instanceof HTMLDetailsElement) part.open = true;
  target?.scrollIntoView();
}

function theme(): void {
  const button = document.getElementById("theme") as HTMLButtonElement;
  const root = document.documentElement;
  const kept = (value?: string): string | null => {
    try {
      if (value) localStorage.setItem("latent-atlas-theme", value);
      return localStorage.getItem("latent-atlas-theme");
    } catch {
      return value ?? null; // a page from disk may have no storage
    }
  };
  const dark = (): boolean =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const before = kept();
  if (before === "dark" || before === "light") root.dataset.theme = before;
  const say = (): void => {
    button.textContent = dark() ? "Light" : "Dark";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    kept(root.dataset.theme);
    say();
  });
  say();
}

type Embed = (place: HTMLElement, specification: object, options: object) => Promise<unknown>;

/** plots.js, which draws specifications; loaded when the first plot is asked for. */
let drawing: Promise<Embed> | undefined;
const loaded = (): Promise<Embed> =>
  (drawing ??= new Promise((resolve, reject) => {
    const script = make("script");
    script.src = "plots.js";
    script.onload = () => resolve((window as unknown as { latentAtlasEmbed: Embed }).latentAtlasEmbed);
    script.onerror = () => reject(new Error("plots.js is missing beside the page"));
    document.head.append(script);
  }));

/** Show the plots of a figure from which values can be read, below its picture. */
async function read(button: HTMLButtonElement): Promise<void> {
  const specifications = JSON.parse(button.nextElementSibling!.textContent!) as object[];
  const around = make("div");
  around.className = "plots";
  button.replaceWith(around);
  try {
    const embed = await loaded();
    for (const specification of specifications) {
      await embed(around.appendChild(make("div")), specification, { renderer: "svg", actions: false });
    }
  } catch (error) {
    around.textContent = String(error);
  }
}

/** A table of plain values, as of the page. */
function tableOf(caption: string, heads: string[], rows: string[][]): HTMLElement {
  const whole = make("div");
  const above = whole.appendChild(make("p", caption));
  above.className = "caption";
  const around = whole.appendChild(make("div"));
  around.className = "scroll";
  around.tabIndex = 0;
  around.setAttribute("role", "region");
  around.setAttribute("aria-label", caption);
  const table = around.appendChild(make("table"));
  table.setAttribute("aria-label", caption);
  const head = table.createTHead().insertRow();
  const numeric = heads.map((_, place) => rows.every((row) => row[place] === "" || !Number.isNaN(Number(row[place]))));
  heads.forEach((text, place) => {
    const cell = head.appendChild(make("th", text));
    cell.scope = "col";
    if (numeric[place]) cell.className = "number";
  });
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((text, place) => {
      const cell = line.insertCell();
      cell.textContent = text;
      if (numeric[place]) {
        cell.className = "number";
        if (text !== "") cell.dataset.value = text;
      }
    });
  }
  return whole;
}

/** Called by records.js, which differs from run to run and so is no part of this page. */
function showRecords(records: Row[]): void {
  const place = document.getElementById("records")!;
  const rules = Map.groupBy(records, (record) => record.stage!.split("-")[0]!);
  const sum = (rows: Row[], key: string): number => rows.reduce((total, row) => total + Number(row[key]), 0);
  const most = (rows: Row[], key: string): number => Math.max(...rows.map((row) => Number(row[key])));
  const names = (rows: Row[], key: string): string => [...new Set(rows.map((row) => row[key]!))].sort().join(", ");
  place.textContent = "What each job took, and where; the same is in results/records.csv.";
  const summary = tableOf(
    `${records.length} jobs, ${(sum(records, "wall_s") / 60).toFixed(1)} minutes of work, by rule`,
    ["rule", "jobs", "together (s)", "longest (s)", "largest memory (MiB)", "devices", "nodes"],
    [...rules]
      .sort((a, b) => sum(b[1], "wall_s") - sum(a[1], "wall_s"))
      .map(([rule, rows]) => [
        rule,
        String(rows.length),
        sum(rows, "wall_s").toFixed(0),
        most(rows, "wall_s").toFixed(0),
        String(most(rows, "peak_memory_mib")),
        names(rows, "device"),
        names(rows, "node"),
      ]),
  );
  const folded = make("details");
  folded.append(make("summary", "Every job"));
  const columns = Object.keys(records[0]!);
  folded.append(tableOf("Every job", columns, records.map((record) => columns.map((key) => record[key] ?? ""))));
  place.after(summary, folded);
  const date = records.map((record) => (record.started_utc ?? "").slice(0, 10)).sort().at(-1);
  if (date) {
    document.querySelectorAll(".rundate").forEach((part) => (part.textContent = ` on ${date}`));
    document.querySelectorAll(".runbib").forEach((part) => (part.textContent = `\n  date = {${date}},`));
  }
  for (const part of [summary, folded]) enhance(part.querySelector("table")!);
}

document.querySelectorAll<HTMLTableElement>("table[data-sortable]").forEach(enhance);
document.querySelectorAll<HTMLButtonElement>("button.read").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", () => void read(button), { once: true });
});
/** What is wider than its place can be reached, and so scrolled, by the keyboard. */
function reach(): void {
  document.querySelectorAll<HTMLElement>(".scroll").forEach((part) => {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  });
}

theme();
reach();
addEventListener("resize", reach);
addEventListener("toggle", reach, true);
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.made, .job)").forEach((part) => part.setAttribute("open", "")));
reveal();
Object.assign(window, { showRecords });
