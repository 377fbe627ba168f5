"use strict";
// The ONNX operators that exported graphs have, over typed arrays, one step of one game at a time.
// Shapes are fixed, so indices are computed once, and every node keeps the array it writes to.

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int64: Float64Array, int32: Int32Array,
  bool: Uint8Array, uint8: Uint8Array, int8: Int8Array,
};
const TYPES = { 1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 11: "float64" };

const sizeOf = (shape) => shape.reduce((product, size) => product * size, 1);
const tensor = (type, shape, numbers) => ({ type, shape, data: ARRAYS[type].from(numbers) });
const filled = (type, shape, number) => ({ type, shape, data: new ARRAYS[type](sizeOf(shape)).fill(number) });
const stridesOf = (shape) => {
  const strides = new Array(shape.length).fill(1);
  for (let d = shape.length - 2; d >= 0; d--) strides[d] = strides[d + 1] * shape[d + 1];
  return strides;
};

// For every place of a shape, in order, the place `begin` + its coordinates times `steps`.
function places(shape, steps, begin = 0) {
  const found = new Int32Array(sizeOf(shape)), at = new Array(shape.length).fill(0);
  let place = begin;
  for (let n = 0; n < found.length; n++) {
    found[n] = place;
    for (let d = shape.length - 1; d >= 0; d--) {
      place += steps[d];
      if (++at[d] < shape[d]) break;
      place -= steps[d] * shape[d];
      at[d] = 0;
    }
  }
  return found;
}

function broadcast(...shapes) {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, d) =>
    shapes.reduce((size, shape) => {
      const own = shape[d - rank + shape.length] ?? 1;
      return size === 1 ? own : size;
    }, 1));
}

// Where the numbers of a tensor stand when it is broadcast to a shape; null: where they are.
function spread(from, to) {
  if (sizeOf(from) === sizeOf(to)) return null;
  const strides = stridesOf(from), lead = to.length - from.length;
  return places(to, to.map((_, d) => (d < lead || from[d - lead] === 1 ? 0 : strides[d - lead])));
}

const axisOf = (axis, rank) => (axis < 0 ? axis + rank : axis);
const around = (shape, axis) => [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))];

function roundEven(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
}

function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

const unary = (compute, type) => (node, x) => {
  const out = node.result(type ?? x.type, x.shape);
  for (let n = 0; n < out.data.length; n++) out.data[n] = compute(x.data[n]);
  return out;
};

const binary = (compute, type) => (node, a, b) => {
  const [shape, i, j] = node.once(() => {
    const whole = broadcast(a.shape, b.shape);
    return [whole, spread(a.shape, whole), spread(b.shape, whole)];
  });
  const out = node.result(type ?? a.type, shape), x = a.data, y = b.data, z = out.data;
  if (!i && !j) for (let n = 0; n < z.length; n++) z[n] = compute(x[n], y[n]);
  else if (i && j) for (let n = 0; n < z.length; n++) z[n] = compute(x[i[n]], y[j[n]]);
  else if (i) for (let n = 0; n < z.length; n++) z[n] = compute(x[i[n]], y[n]);
  else for (let n = 0; n < z.length; n++) z[n] = compute(x[n], y[j[n]]);
  return out;
};

// `begin`, then `join` over axes; `end` of what was found and how many numbers it was made of.
const reduce = (begin, join, end = (found) => found) => (node, x, axes) => {
  const [shape, to, count] = node.once(() => {
    const gone = new Set([...axes.data].map((axis) => axisOf(axis, x.shape.length)));
    const kept = x.shape.map((size, d) => (gone.has(d) ? 1 : size)), strides = stridesOf(kept);
    const into = places(x.shape, strides.map((stride, d) => (gone.has(d) ? 0 : stride)));
    const whole = node.attributes.keepdims === 0 ? kept.filter((_, d) => !gone.has(d)) : kept;
    return [whole, into, x.data.length / sizeOf(kept)];
  });
  const out = node.result(x.type, shape), found = node.scratch(out.data.length).fill(begin);
  for (let n = 0; n < x.data.length; n++) found[to[n]] = join(found[to[n]], x.data[n]);
  for (let n = 0; n < found.length; n++) out.data[n] = end(found[n], count);
  return out;
};

// A function of the numbers along an axis: (begin, step, length, x, y), in place of y.
const along = (compute, axisFrom) => (node, x, axis) => {
  const out = node.result(x.type, x.shape);
  const d = axisOf(axisFrom === "input" ? axis.data[0] : node.attributes.axis ?? -1, x.shape.length);
  const [outer, length, inner] = around(x.shape, d);
  for (let o = 0; o < outer; o++)
    for (let n = 0; n < inner; n++) compute(o * length * inner + n, inner, length, x.data, out.data);
  return out;
};

function logSum(begin, step, length, x) {
  let most = -Infinity, sum = 0;
  for (let k = 0; k < length; k++) most = Math.max(most, x[begin + k * step]);
  for (let k = 0; k < length; k++) sum += Math.exp(x[begin + k * step] - most);
  return most + Math.log(sum);
}

const best = (isBetter) => (node, x) => {
  const axis = axisOf(node.attributes.axis ?? 0, x.shape.length);
  const [outer, length, inner] = around(x.shape, axis), shape = [...x.shape];
  if (node.attributes.keepdims === 0) shape.splice(axis, 1);
  else shape[axis] = 1;
  const out = node.result("int64", shape);
  for (let o = 0; o < outer; o++)
    for (let n = 0; n < inner; n++) {
      let at = 0;
      const begin = o * length * inner + n;
      for (let k = 1; k < length; k++)
        if (isBetter(x.data[begin + k * inner], x.data[begin + at * inner])) at = k;
      out.data[o * inner + n] = at;
    }
  return out;
};

function picked(node, x, shape, from) {
  const out = node.result(x.type, shape);
  for (let n = 0; n < from.length; n++) out.data[n] = x.data[from[n]];
  return out;
}

// z [columns] += x [k] times y [k, columns], four rows at a time: most of a graph's time is here.
function addProduct(z, zFrom, x, from, y, line, k, columns) {
  let p = 0;
  for (; p + 3 < k; p += 4) {
    const a = x[from + p], b = x[from + p + 1], c = x[from + p + 2], d = x[from + p + 3];
    const i = line + p * columns, j = i + columns, l = j + columns, m = l + columns;
    for (let n = 0; n < columns; n++) z[zFrom + n] += a * y[i + n] + b * y[j + n] + c * y[l + n] + d * y[m + n];
  }
  for (; p < k; p++) {
    const a = x[from + p], i = line + p * columns;
    for (let n = 0; n < columns; n++) z[zFrom + n] += a * y[i + n];
  }
}

function matmul(node, a, b) {
  const [shape, m, k, n, i, j] = node.once(() => {
    const left = a.shape.length === 1 ? [1, ...a.shape] : a.shape;
    const right = b.shape.length === 1 ? [...b.shape, 1] : b.shape;
    const batch = broadcast(left.slice(0, -2), right.slice(0, -2));
    const [rows, inner, columns] = [left.at(-2), left.at(-1), right.at(-1)];
    const kept = [...(a.shape.length === 1 ? [] : [rows]), ...(b.shape.length === 1 ? [] : [columns])];
    const at = (whole) => spread(whole.slice(0, -2), batch) ?? places(batch, stridesOf(batch));
    return [[...batch, ...kept], rows, inner, columns, at(left), at(right)];
  });
  const out = node.result(a.type, shape), z = node.scratch(n);
  for (let g = 0; g < i.length; g++)
    for (let row = 0; row < m; row++) {
      z.fill(0);
      addProduct(z, 0, a.data, (i[g] * m + row) * k, b.data, j[g] * k * n, k, n);
      out.data.set(z, (g * m + row) * n);
    }
  return out;
}

// Both kinds of convolution, of one image at a time, as one product of matrices: what a place of the
// smaller grid and a place of the kernel meet in the larger grid is found once.
const convolve = (isTransposed) => (node, x, weight, bias) => {
  const { strides: [sy, sx], pads: [py, px], dilations: [dy, dx], group } = node.attributes;
  const [count, channels, height, width] = x.shape, [, , ky, kx] = weight.shape;
  const outs = isTransposed ? weight.shape[1] * group : weight.shape[0], taps = ky * kx;
  const [moreY, moreX] = node.attributes.output_padding ?? [0, 0];
  const [h, w] = isTransposed
    ? [(height - 1) * sy - 2 * py + dy * (ky - 1) + 1 + moreY, (width - 1) * sx - 2 * px + dx * (kx - 1) + 1 + moreX]
    : [Math.floor((height + 2 * py - dy * (ky - 1) - 1) / sy) + 1, Math.floor((width + 2 * px - dx * (kx - 1) - 1) / sx) + 1];
  const [rows, columns, farRows, farColumns] = isTransposed ? [height, width, h, w] : [h, w, height, width];
  const near = rows * columns, far = farRows * farColumns, ins = channels / group, made = outs / group;
  const [meets, turned, parts, sums] = node.once(() => {
    const found = new Int32Array(taps * near).fill(-1);
    for (let tap = 0; tap < taps; tap++)
      for (let n = 0; n < near; n++) {
        const a = Math.floor(n / columns) * sy + Math.floor(tap / kx) * dy - py, b = (n % columns) * sx + (tap % kx) * dx - px;
        if (a >= 0 && a < farRows && b >= 0 && b < farColumns) found[tap * near + n] = a * farColumns + b;
      }
    // of a transposed one [C, O * taps] is turned: a row for each channel and tap that it makes
    const lines = isTransposed ? new Float32Array(weight.data.length) : weight.data;
    if (isTransposed)
      for (let c = 0; c < channels; c++)
        for (let t = 0; t < made * taps; t++)
          lines[(Math.floor(c / ins) * made * taps + t) * ins + (c % ins)] = weight.data[c * made * taps + t];
    return [found, lines, new Float32Array(ins * (isTransposed ? 1 : taps) * near), new Float64Array(near)];
  });
  const out = node.result(x.type, [count, outs, h, w]), z = out.data;
  for (let image = 0; image < count; image++)
    for (let g = 0; g < group; g++) {
      const from = (image * channels + g * ins) * height * width, to = (image * outs + g * made) * h * w;
      if (isTransposed) {
        parts.set(x.data.subarray(from, from + ins * near));
        for (let o = 0; o < made; o++) {
          const begin = to + o * far;
          z.fill(bias ? bias.data[g * made + o] : 0, begin, begin + far);
          for (let tap = 0; tap < taps; tap++) {
            sums.fill(0);
            addProduct(sums, 0, turned, ((g * made + o) * taps + tap) * ins, parts, 0, ins, near);
            for (let n = 0, at = tap * near; n < near; n++, at++) if (meets[at] >= 0) z[begin + meets[at]] += sums[n];
          }
        }
      } else {
        for (let c = 0; c < ins; c++)
          for (let n = 0, at = c * taps * near; n < taps * near; n++, at++)
            parts[at] = meets[n] < 0 ? 0 : x.data[from + c * far + meets[n]];
        for (let o = 0; o < made; o++) {
          sums.fill(bias ? bias.data[g * made + o] : 0);
          addProduct(sums, 0, turned, (g * made + o) * ins * taps, parts, 0, ins * taps, near);
          z.set(sums, to + o * near);
        }
      }
    }
  return out;
};

const truth = "bool";
const OPERATORS = {
  Abs: unary(Math.abs), Asinh: unary(Math.asinh), Ceil: unary(Math.ceil), Cos: unary(Math.cos),
  Erf: unary(erf), Exp: unary(Math.exp),
  Floor: unary(Math.floor), IsNaN: unary((x) => +Number.isNaN(x), truth), Log: unary(Math.log),
  Neg: unary((x) => -x), Not: unary((x) => +!x, truth), Reciprocal: unary((x) => 1 / x),
  Relu: unary((x) => Math.max(x, 0)), Round: unary(roundEven), Sigmoid: unary(sigmoid), Sign: unary(Math.sign),
  Sin: unary(Math.sin), Softplus: unary(softplus), Sqrt: unary(Math.sqrt), Tanh: unary(Math.tanh),
  Add: binary((a, b) => a + b), Sub: binary((a, b) => a - b), Mul: binary((a, b) => a * b),
  Pow: binary(Math.pow), Max: binary(Math.max), Min: binary(Math.min),
  Div: (node, a, b) => (a.type.startsWith("float") ? divide : divideWhole)(node, a, b),
  Equal: binary((a, b) => +(a === b), truth), Less: binary((a, b) => +(a < b), truth),
  LessOrEqual: binary((a, b) => +(a <= b), truth), Greater: binary((a, b) => +(a > b), truth),
  GreaterOrEqual: binary((a, b) => +(a >= b), truth), And: binary((a, b) => a & b, truth),
  Or: binary((a, b) => a | b, truth),
  Where: (node, condition, a, b) => {
    const [shape, ...at] = node.once(() => {
      const whole = broadcast(condition.shape, a.shape, b.shape), same = stridesOf(whole);
      return [whole, ...[condition, a, b].map((x) => spread(x.shape, whole) ?? places(whole, same))];
    });
    const out = node.result(a.type, shape);
    for (let n = 0; n < out.data.length; n++)
      out.data[n] = condition.data[at[0][n]] ? a.data[at[1][n]] : b.data[at[2][n]];
    return out;
  },
  Cast: (node, x) => {
    const type = TYPES[node.attributes.to], out = node.result(type, x.shape), isWhole = !type.startsWith("float");
    for (let n = 0; n < out.data.length; n++)
      out.data[n] = type === truth ? +(x.data[n] !== 0) : isWhole ? Math.trunc(x.data[n]) : x.data[n];
    return out;
  },
  Identity: (node, x) => x,
  Reshape: (node, x, shape) => ({ type: x.type, shape: node.once(() => [...shape.data]), data: x.data }),
  Expand: (node, x, shape) => {
    const [whole, from] = node.once(() => {
      const to = broadcast(x.shape, [...shape.data]);
      return [to, spread(x.shape, to) ?? places(to, stridesOf(to))];
    });
    return picked(node, x, whole, from);
  },
  Transpose: (node, x) => {
    const [shape, from] = node.once(() => {
      const strides = stridesOf(x.shape), to = node.attributes.perm.map((d) => x.shape[d]);
      return [to, places(to, node.attributes.perm.map((d) => strides[d]))];
    });
    return picked(node, x, shape, from);
  },
  Slice: (node, x, begin, end, dim, step) => {
    const [shape, from] = node.once(() => {
      const strides = stridesOf(x.shape), d = dim.data[0], by = step.data[0], to = [...x.shape];
      const stop = Math.min(end.data[0], x.shape[d]);
      to[d] = Math.max(0, Math.ceil((stop - begin.data[0]) / by));
      const steps = strides.map((stride, place) => (place === d ? stride * by : stride));
      return [to, places(to, steps, begin.data[0] * strides[d])];
    });
    return picked(node, x, shape, from);
  },
  Concat: (node, ...parts) => {
    const axis = axisOf(node.attributes.axis, parts[0].shape.length), shape = [...parts[0].shape];
    shape[axis] = parts.reduce((sum, part) => sum + part.shape[axis], 0);
    const out = node.result(parts[0].type, shape), [outer, , inner] = around(shape, axis);
    let before = 0;
    for (const part of parts) {
      const length = part.shape[axis] * inner;
      for (let o = 0; o < outer; o++)
        out.data.set(part.data.subarray(o * length, (o + 1) * length), o * shape[axis] * inner + before);
      before += length;
    }
    return out;
  },
  Gather: (node, x, index) => {
    const axis = axisOf(node.attributes.axis ?? 0, x.shape.length), [outer, length, inner] = around(x.shape, axis);
    const shape = [...x.shape.slice(0, axis), ...index.shape, ...x.shape.slice(axis + 1)];
    const out = node.result(x.type, shape);
    let to = 0;
    for (let o = 0; o < outer; o++)
      for (const at of index.data) {
        const from = (o * length + axisOf(at, length)) * inner;
        for (let n = 0; n < inner; n++) out.data[to++] = x.data[from + n];
      }
    return out;
  },
  GatherElements: (node, x, index) => {
    const axis = axisOf(node.attributes.axis ?? 0, x.shape.length), strides = stridesOf(x.shape);
    const from = node.once(() => places(index.shape, strides.map((s, d) => (d === axis ? 0 : s))));
    const out = node.result(x.type, index.shape);
    for (let n = 0; n < from.length; n++)
      out.data[n] = x.data[from[n] + axisOf(index.data[n], x.shape[axis]) * strides[axis]];
    return out;
  },
  GatherND: (node, x, index) => {
    const depth = index.shape.at(-1), rest = x.shape.slice(depth), inner = sizeOf(rest), strides = stridesOf(x.shape);
    const out = node.result(x.type, [...index.shape.slice(0, -1), ...rest]);
    for (let row = 0; row * depth < index.data.length; row++) {
      let from = 0;
      for (let d = 0; d < depth; d++) from += axisOf(index.data[row * depth + d], x.shape[d]) * strides[d];
      for (let n = 0; n < inner; n++) out.data[row * inner + n] = x.data[from + n];
    }
    return out;
  },
  ScatterElements: (node, x, index, values) => {
    const axis = axisOf(node.attributes.axis ?? 0, x.shape.length), strides = stridesOf(x.shape);
    const to = node.once(() => places(index.shape, strides.map((s, d) => (d === axis ? 0 : s))));
    const out = node.result(x.type, x.shape);
    out.data.set(x.data);
    for (let n = 0; n < to.length; n++)
      out.data[to[n] + axisOf(index.data[n], x.shape[axis]) * strides[axis]] = values.data[n];
    return out;
  },
  Pad: (node, x, pads, fill) => {
    const rank = x.shape.length;
    const [shape, to] = node.once(() => {
      const whole = x.shape.map((size, d) => size + pads.data[d] + pads.data[d + rank]), strides = stridesOf(whole);
      const begin = strides.reduce((sum, stride, d) => sum + stride * pads.data[d], 0);
      return [whole, places(x.shape, strides, begin)];
    });
    const out = node.result(x.type, shape);
    out.data.fill(fill ? fill.data[0] : 0);
    for (let n = 0; n < to.length; n++) out.data[to[n]] = x.data[n];
    return out;
  },
  ReduceSum: reduce(0, (a, b) => a + b), ReduceMean: reduce(0, (a, b) => a + b, (sum, count) => sum / count),
  ReduceMax: reduce(-Infinity, Math.max), ReduceMin: reduce(Infinity, Math.min),
  ReduceLogSumExp: reduce(-Infinity, (a, b) => {
    const most = Math.max(a, b);
    return most === -Infinity ? most : most + Math.log1p(Math.exp(Math.min(a, b) - most));
  }),
  ArgMax: best((a, b) => a > b), ArgMin: best((a, b) => a < b),
  CumSum: along((begin, step, length, x, y) => {
    let sum = 0;
    for (let k = 0; k < length; k++) y[begin + k * step] = sum += x[begin + k * step];
  }, "input"),
  Softmax: along((begin, step, length, x, y) => {
    const all = logSum(begin, step, length, x);
    for (let k = 0; k < length; k++) y[begin + k * step] = Math.exp(x[begin + k * step] - all);
  }),
  LogSoftmax: along((begin, step, length, x, y) => {
    const all = logSum(begin, step, length, x);
    for (let k = 0; k < length; k++) y[begin + k * step] = x[begin + k * step] - all;
  }),
  LayerNormalization: (node, x, scale, bias) => {
    const out = node.result(x.type, x.shape), length = scale.data.length;
    for (let begin = 0; begin < x.data.length; begin += length) {
      let mean = 0, square = 0;
      for (let k = 0; k < length; k++) mean += x.data[begin + k] / length;
      for (let k = 0; k < length; k++) square += (x.data[begin + k] - mean) ** 2 / length;
      const by = 1 / Math.sqrt(square + node.attributes.epsilon);
      for (let k = 0; k < length; k++)
        out.data[begin + k] = (x.data[begin + k] - mean) * by * scale.data[k] + (bias ? bias.data[k] : 0);
    }
    return out;
  },
  TopK: (node, x, count) => {
    const axis = axisOf(node.attributes.axis ?? -1, x.shape.length), [outer, length, inner] = around(x.shape, axis);
    const kept = count.data[0], shape = x.shape.map((size, d) => (d === axis ? kept : size));
    const values = node.result(x.type, shape), order = node.result("int64", shape, 1);
    const sign = node.attributes.largest === 0 ? 1 : -1;
    for (let o = 0; o < outer; o++)
      for (let n = 0; n < inner; n++) {
        const at = (k) => x.data[(o * length + k) * inner + n];
        const sorted = Array.from({ length }, (_, k) => k).sort((a, b) => sign * (at(a) - at(b)) || a - b);
        for (let k = 0; k < kept; k++) {
          values.data[(o * kept + k) * inner + n] = at(sorted[k]);
          order.data[(o * kept + k) * inner + n] = sorted[k];
        }
      }
    return [values, order];
  },
  MatMul: matmul, Conv: convolve(false), ConvTranspose: convolve(true),
  DepthToSpace: (node, x) => {
    const size = node.attributes.blocksize, [count, channels, height, width] = x.shape, made = channels / size ** 2;
    const [shape, from] = node.once(() => {
      const area = height * width, steps = [channels * area, size * size * area, width, size * area, 1, area];
      const apart = places([count, made, height, size, width, size], steps);
      return [[count, made, height * size, width * size], apart];
    });
    return picked(node, x, shape, from);
  },
};
const divide = binary((a, b) => a / b), divideWhole = binary((a, b) => Math.trunc(a / b));

// A node of a graph, with what it keeps from step to step.
class Node {
  constructor([kind, inputs, outputs, attributes]) {
    this.compute = OPERATORS[kind];
    if (!this.compute) throw new Error(`this page does not compute ONNX's ${kind}`);
    Object.assign(this, { kind, inputs, outputs, attributes, results: [], kept: null, room: null });
  }
  once(find) { return (this.kept ??= find()); }
  result(type, shape, place = 0) {
    return (this.results[place] ??= { type, shape, data: new ARRAYS[type](sizeOf(shape)) });
  }
  scratch(size) { return (this.room ??= new Float64Array(size)); }
}

// A graph: `run` turns tensors by name into tensors by name.
class Graph {
  constructor(program) {
    this.inputs = program.inputs;
    this.outputs = program.outputs;
    this.nodes = program.nodes.map((node) => new Node(node));
    const bytes = Uint8Array.from(atob(program.weights), (letter) => letter.charCodeAt(0));
    this.constants = Object.fromEntries(program.constants.map(([name, type, shape, begin]) =>
      [name, { type, shape, data: new ARRAYS[type](bytes.buffer, begin, sizeOf(shape)) }]));
  }
  run(inputs) {
    const values = { ...this.constants, ...inputs };
    for (const node of this.nodes) {
      const result = node.compute(node, ...node.inputs.map((name) => values[name]));
      if (Array.isArray(result)) node.outputs.forEach((name, n) => { values[name] = result[n]; });
      else values[node.outputs[0]] = result;
    }
    const copied = ({ name }) => [name, { ...values[name], data: values[name].data.slice() }];
    return Object.fromEntries(this.outputs.map(copied));
  }
  // The inputs of a first step, without those that `fill` is to give.
  initial() {
    const state = this.inputs.filter((input) => input.next);
    return Object.fromEntries(state.map(({ name, type, shape, initial }) =>
      [name, Array.isArray(initial) ? tensor(type, shape, initial.flat(Infinity)) : filled(type, shape, +initial)]));
  }
  // The state that comes after a step with these outputs.
  after(outputs) {
    const state = this.inputs.filter((input) => input.next);
    return Object.fromEntries(state.map(({ name, next }) => [name, outputs[next]]));
  }
}
