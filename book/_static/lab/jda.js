/* JDA on one picture, pixel for pixel what kdlib computes (kdlib/views/ops.py and jda.py say why it is so).

A picture is a Uint8Array of 3 x 32 x 32 levels, channel by channel. Math.fround stands where kdlib rounds to float32.
lists.js, written from kdlib, brings the lists of ops (lab.lists) and what their magnitudes stand for (lab.ops). */

(function (lab) {
  "use strict";

  const SIDE = 32, PIXELS = SIDE * SIDE, FILL = 128, PADDING = 4, f = Math.fround;

  const limit = (value, low, high) => Math.min(high, Math.max(low, value));
  const level = (value) => Math.trunc(limit(value, 0, 255));
  const blend = (from, to, factor) => level(f(f((to - from) * f(factor)) + from));
  const grey = (image, i) => (19595 * image[i] + 38470 * image[i + PIXELS] + 7471 * image[i + 2 * PIXELS] + 32768) >> 16;

  /* A new picture: value(channel's first index, x, y) at each pixel. */
  function drawn(value) {
    const out = new Uint8Array(3 * PIXELS);
    for (let start = 0; start < out.length; start += PIXELS)
      for (let i = 0; i < PIXELS; i++) out[start + i] = value(start, i % SIDE, Math.floor(i / SIDE));
    return out;
  }

  /* A new picture: table(the channel's levels) gives each channel its function from level to level. */
  function mapped(image, table) {
    const out = new Uint8Array(3 * PIXELS);
    for (let start = 0; start < out.length; start += PIXELS) {
      const channel = image.subarray(start, start + PIXELS);
      out.set(channel.map(table(channel)), start);
    }
    return out;
  }

  function shear(image, slope, alongX) {
    return drawn((start, x, y) => {
      const [along, across] = alongX ? [x, y] : [y, x];
      const shift = slope * (across + 0.5), base = Math.floor(shift), t = f(shift - base);
      const centre = along + 0.5 + shift;
      if (centre < 0 || centre >= SIDE) return FILL;
      const [v1, v2, v3, v4] = [-1, 0, 1, 2].map((step) => {
        const at = limit(along + base + step, 0, SIDE - 1);
        return image[start + (alongX ? y * SIDE + at : at * SIDE + x)];
      });
      const left = v2 - v1, middle = v3 - v2, bend = left + v4 - v3;
      const cubic = f(f(f(f(bend * t) - (bend + left)) * t) + (left + middle));
      return level(f(f(cubic * t) + v2));
    });
  }

  function translate(image, fraction, alongX) {
    const shift = Math.floor(fraction * SIDE + 0.5);
    return drawn((start, x, y) => {
      const at = (alongX ? x : y) + shift;
      return at < 0 || at >= SIDE ? FILL : image[start + (alongX ? y * SIDE + at : at * SIDE + x)];
    });
  }

  /* In PIL's fixed point, 16 bits after it: so ties between neighbours fall as in PIL. */
  function rotate(image, degrees) {
    const angle = (-degrees * Math.PI) / 180, cos = Math.cos(angle), sin = Math.sin(angle), middle = SIDE / 2;
    const fixed = (value) => Math.floor(value * 65536 + 0.5);
    const x0 = fixed((cos + sin) / 2 - (cos + sin) * middle + middle);
    const y0 = fixed((cos - sin) / 2 + (sin - cos) * middle + middle);
    return drawn((start, x, y) => {
      const column = (x0 + x * fixed(cos) + y * fixed(sin)) >> 16;
      const row = (y0 + x * fixed(-sin) + y * fixed(cos)) >> 16;
      const inside = column >= 0 && column < SIDE && row >= 0 && row < SIDE;
      return inside ? image[start + row * SIDE + column] : FILL;
    });
  }

  function contrast(image, value) {
    let total = 0;
    for (let i = 0; i < PIXELS; i++) total += grey(image, i);
    const mean = Math.floor((2 * total + PIXELS) / (2 * PIXELS));
    return image.map((v) => blend(mean, v, 1 + value));
  }

  function sharpness(image, value) {
    return drawn((start, x, y) => {
      const i = start + y * SIDE + x;
      if (x === 0 || y === 0 || x === SIDE - 1 || y === SIDE - 1) return image[i];
      let total = 4 * image[i];
      for (const row of [i - SIDE, i, i + SIDE]) total += image[row - 1] + image[row] + image[row + 1];
      return blend(Math.round(f(total * f(1 / 13))), image[i], 1 + value);
    });
  }

  function autocontrast(channel) {
    const low = Math.min(...channel), high = Math.max(...channel), scale = f((high - low) * f(1 / 255));
    return low === high ? (v) => v : (v) => level(f((v - low) / scale));
  }

  function equalize(channel) {
    const counts = new Array(256).fill(0), below = [];
    channel.forEach((v) => counts[v]++);
    counts.reduce((sum, count, v) => (below[v] = sum) + count, 0);
    const step = Math.floor(below[Math.max(...channel)] / 255);
    return step === 0 ? (v) => v : (v) => level((below[v] + Math.floor(step / 2)) / step);
  }

  const APPLY = {
    shearX: (image, slope) => shear(image, slope, true),
    shearY: (image, slope) => shear(image, slope, false),
    translateX: (image, fraction) => translate(image, fraction, true),
    translateY: (image, fraction) => translate(image, fraction, false),
    rotate,
    color: (image, value) => image.map((v, i) => blend(grey(image, i % PIXELS), v, 1 + value)),
    posterize: (image, bits) => image.map((v) => v & (((1 << bits) - 1) << (8 - bits))),
    solarize: (image, threshold) => image.map((v) => (v >= Math.ceil(threshold) ? 255 - v : v)),
    contrast,
    sharpness,
    brightness: (image, value) => image.map((v) => level(f(v * f(1 + value)))),
    autocontrast: (image) => mapped(image, autocontrast),
    equalize: (image) => mapped(image, equalize),
    invert: (image) => image.map((v) => 255 - v),
  };

  /* One op at a magnitude index 0..9, with the sign of the view where the op has one. */
  lab.applyOp = function (name, image, magnitude, sign) {
    const op = lab.ops[name], value = op.magnitudes ? op.magnitudes[magnitude] : 0;
    return APPLY[name](image, op.signed ? sign * value : value);
  };

  /* What fires: of 2n uniforms, the first n decide whether each of the n ops fires, the others its sign. */
  lab.fired = function (ops, p, uniforms) {
    const all = ops.map(([name, magnitude], k) => ({ name, magnitude, k, sign: uniforms[ops.length + k] >= 0.5 ? -1 : 1 }));
    return all.filter(({ k }) => uniforms[k] < f(p));
  };

  lab.jda = (image, ops, p, uniforms) =>
    lab.fired(ops, p, uniforms).reduce((out, op) => lab.applyOp(op.name, out, op.magnitude, op.sign), image.slice());

  /* A random crop from a frame of 4 black pixels, then perhaps a flip: uniforms are row, column, flip. */
  lab.cropFlip = function (image, uniforms) {
    const [top, left] = [0, 1].map((k) => Math.floor(f(uniforms[k] * (2 * PADDING + 1))) - PADDING);
    return drawn((start, x, y) => {
      const row = top + y, column = left + (uniforms[2] < 0.5 ? SIDE - 1 - x : x);
      const inside = row >= 0 && row < SIDE && column >= 0 && column < SIDE;
      return inside ? image[start + row * SIDE + column] : 0;
    });
  };

  /* count numbers in [0, 1) that float32 holds, the same for the same seed: a small generator, mulberry32. */
  lab.uniforms = function (seed, count) {
    let state = seed >>> 0;
    return Array.from({ length: count }, () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 8) / 2 ** 24;
    });
  };
})((window.kdlab = window.kdlab || {}));
