/* Discs on a canvas, pixel by pixel: tens of thousands in a few milliseconds, where WebGL may be missing and SVG is slow. */
"use strict";

(function () {
  const CHANNELS = [0, 8, 16];

  /** [r, g, b] as a pixel of an ImageData, on the little-endian machines that there are. */
  const pixel = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

  /** A colour of the style sheet as [r, g, b]. */
  report.rgb = function (colour) {
    const hex = colour.replace("#", "");
    return [0, 2, 4].map((start) => Number.parseInt(hex.slice(start, start + 2), 16));
  };

  /** `share` of the way from colour a to colour b. */
  report.between = (a, b, share) => a.map((value, channel) => Math.round(value + (b[channel] - value) * share));

  /** Which pixels a disc covers: whole ones, and how far (0 to 255) those at its edge. */
  function disc(radius, width) {
    const [whole, edge, cover] = [[], [], []];
    const reach = Math.ceil(radius);
    for (let dy = -reach; dy <= reach; dy += 1) {
      for (let dx = -reach; dx <= reach; dx += 1) {
        const covered = Math.round(255 * Math.min(1, radius + 0.5 - Math.hypot(dx, dy)));
        if (covered >= 255) whole.push(dy * width + dx);
        else if (covered > 0) {
          edge.push(dy * width + dx);
          cover.push(covered);
        }
      }
    }
    return { reach, whole, edge, cover };
  }

  function blend(below, above, cover) {
    let mixed = 255 << 24;
    for (const shift of CHANNELS) {
      const old = (below >>> shift) & 255;
      mixed |= (old + (((((above >>> shift) & 255) - old) * cover) >> 8)) << shift;
    }
    return mixed >>> 0;
  }

  /** A picture of the size of `canvas` (in device pixels) in the colour `ground`. */
  report.raster = function (canvas, ground) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    pixels.fill(pixel(ground));

    /** Draw point i at (left(i), top(i)), for all i of `count` that are `chosen`, as a disc of palette[shade[i]]. */
    function discs({ count, chosen, left, top, shade, palette, radius }) {
      const { reach, whole, edge, cover } = disc(radius, width);
      const colours = palette.map(pixel);
      for (let i = 0; i < count; i += 1) {
        if (!chosen(i)) continue;
        const x = Math.round(left(i));
        const y = Math.round(top(i));
        // One that the border would cut is left out: no row of pixels may run over into the next.
        if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
        const middle = y * width + x;
        const colour = colours[shade[i]];
        for (let k = 0; k < whole.length; k += 1) pixels[middle + whole[k]] = colour;
        for (let k = 0; k < edge.length; k += 1) {
          pixels[middle + edge[k]] = blend(pixels[middle + edge[k]], colour, cover[k]);
        }
      }
    }

    return { discs, show: () => context.putImageData(image, 0, 0) };
  };
})();
