// Draws Vega-Lite specifications; loaded when the first of them comes into view.
import embed from "vega-embed";

Object.assign(window, { latentAtlasEmbed: embed });
