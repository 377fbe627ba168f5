// Pictures of dreams from rows alone: drawn by the name that a page gives, images as they are,
// numbers as bars over time. Each draws the rows of an episode, the newest last.

const INK = () => getComputedStyle(document.body).color;
const TONES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#777777"];
const REMEMBERED = 64; // rows over which bars are drawn

function line(pen, points, width, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.lineCap = "round";
  pen.beginPath();
  points.forEach(([x, y]) => pen.lineTo(x, y));
  pen.stroke();
}

function dot(pen, x, y, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

const last = (rows) => rows.at(-1).observation.observation.data;

const PICTURES = {
  CartPole(pen, width, height, rows) {
    const [x, , angle] = last(rows), at = width * (0.5 + x / 4.8), ground = height * 0.75, length = height * 0.5;
    line(pen, [[0, ground], [width, ground]], 1, INK());
    pen.fillStyle = INK();
    pen.fillRect(at - 30, ground - 16, 60, 32);
    line(pen, [[at, ground - 16], [at + length * Math.sin(angle), ground - 16 - length * Math.cos(angle)]], 10, TONES[5]);
    dot(pen, at, ground - 16, 5, TONES[0]);
  },
  Pendulum(pen, width, height, rows) {
    const [cos, sin] = last(rows), length = height * 0.4, [x, y] = [width / 2, height / 2];
    line(pen, [[x, y], [x - length * sin, y - length * cos]], 18, TONES[5]);
    dot(pen, x, y, 6, INK());
  },
  Acrobot(pen, width, height, rows) {
    const [cos1, sin1, cos2, sin2] = last(rows), length = height * 0.22, [x, y] = [width / 2, height / 2];
    const one = [x + length * sin1, y + length * cos1];
    const both = [cos1 * cos2 - sin1 * sin2, sin1 * cos2 + cos1 * sin2];
    line(pen, [[0, y - length], [width, y - length]], 1, INK());
    line(pen, [[x, y], one], 12, TONES[4]);
    line(pen, [one, [one[0] + length * both[1], one[1] + length * both[0]]], 12, TONES[2]);
    dot(pen, x, y, 6, INK());
  },
  MountainCar(pen, width, height, rows) {
    const place = (x) => [((x + 1.2) / 1.8) * width, height * (0.55 - 0.35 * Math.sin(3 * x))];
    line(pen, Array.from({ length: 60 }, (_, n) => place(-1.2 + (1.8 * n) / 59)), 2, INK());
    const [x, y] = place(last(rows)[0]), [flag, top] = place(0.5);
    line(pen, [[flag, top], [flag, top - 40]], 2, TONES[5]);
    dot(pen, x, y - 10, 10, TONES[0]);
  },
  ring(pen, width, height, rows, { width: cells }) {
    const seen = new Array(cells).fill(null), side = Math.min(width / cells, height * 0.6);
    let at = 0;
    rows.forEach((row) => {
      at = (at + (row.action === null ? 0 : [0, 1, -1, 0, 0][row.action]) + cells) % cells;
      seen[at] = row.observation.observation.data[0];
    });
    seen.forEach((value, cell) => {
      const left = (width - cells * side) / 2 + cell * side, top = (height - side) / 2, edge = side * 0.06;
      pen.globalAlpha = value === null ? 0.25 : 1;
      pen.fillStyle = value === null ? "#888888" : TONES[value % TONES.length];
      pen.fillRect(left + edge, top + edge, side - 2 * edge, side - 2 * edge);
      pen.globalAlpha = 1;
      pen.fillStyle = value === null ? INK() : "#ffffff";
      pen.font = `${side * 0.45}px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(value === null ? "?" : value, left + side / 2, top + side / 2);
      if (cell === at) {
        pen.strokeStyle = INK();
        pen.lineWidth = Math.max(3, edge);
        pen.strokeRect(left + edge / 2, top + edge / 2, side - edge, side - edge);
      }
    });
  },
};
PICTURES.MountainCarContinuous = PICTURES.MountainCar;

const isImage = ({ shape, type }) => shape.length === 4 && (type === "uint8" || type === "bool" || type === "int8");

// An image [1, H, W, C] on a canvas of its size.
function imageOf({ shape: [, height, width, channels], type, data }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(width, height), by = type === "uint8" ? 1 : 255;
  for (let n = 0; n < width * height; n++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * n + c] = by * data[n * channels + (channels < 3 ? 0 : c)];
    pixels.data[4 * n + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function drawImages(pen, width, height, images) {
  pen.imageSmoothingEnabled = false;
  const wide = width / images.length;
  images.map(imageOf).forEach((image, n) => {
    const by = Math.min((wide - 6) / image.width, height / image.height);
    const [w, h] = [image.width * by, image.height * by];
    pen.drawImage(image, n * wide + (wide - w) / 2, (height - h) / 2, w, h);
  });
}

function drawNumbers(pen, width, top, height, rows, ranges) {
  const shown = rows.slice(-REMEMBERED).map((row) =>
    Object.values(row.observation).filter((part) => !isImage(part)).flatMap((part) => [...part.data].map(Number)));
  const labels = Object.entries(rows.at(-1).observation).filter(([, part]) => !isImage(part)).flatMap(([name, part]) =>
    [...part.data].map((_, n) => ({
      text: part.data.length > 1 ? `${name.replace("observation.", "")} ${n}` : name.replace("observation.", ""),
      range: ranges[name] && [ranges[name][0][n], ranges[name][1][n]],
    })));
  const count = Math.min(labels.length, 24), high = Math.min(40, height / Math.max(1, count));
  pen.font = `${Math.min(15, high * 0.6)}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  labels.slice(0, count).forEach(({ text, range }, n) => {
    const values = shown.map((row) => row[n]);
    const [low, most] = range && range[1] > range[0] ? range : [Math.min(0, ...values), Math.max(1, ...values)];
    const left = width * 0.22, span = width * 0.6, above = top + n * high, room = high - 6;
    const share = (value) => Math.min(1, Math.max(0, (value - low) / (most - low)));
    pen.fillStyle = INK();
    pen.textAlign = "right";
    pen.fillText(text, left - 8, above + room / 2);
    pen.textAlign = "left";
    pen.fillText(Number(values.at(-1).toPrecision(4)), left + span + 8, above + room / 2);
    pen.globalAlpha = 0.1;
    pen.fillRect(left, above, span, room);
    pen.globalAlpha = 1;
    pen.fillStyle = TONES[0];
    values.forEach((value, time) => {
      const [a, b] = [share(0), share(value)].sort((x, y) => x - y);
      pen.fillRect(left + (time * span) / REMEMBERED, above + room * (1 - b), span / REMEMBERED - 1, Math.max(1, room * (b - a)));
    });
  });
}

// Draws the rows of an episode, as `about` says.
function draw(canvas, rows, about) {
  const pen = canvas.getContext("2d"), { width, height } = canvas, row = rows.at(-1);
  pen.clearRect(0, 0, width, height);
  if (row.image) return drawImages(pen, width, height, [row.image]);
  const picture = PICTURES[about.picture.name];
  if (picture) return picture(pen, width, height, rows, about.picture);
  const images = Object.values(row.observation).filter(isImage), numbers = Object.values(row.observation).length - images.length;
  const share = numbers && images.length ? 0.6 : images.length ? 1 : 0;
  if (images.length) drawImages(pen, width, height * share, images);
  if (numbers) drawNumbers(pen, width, height * share + 10, height * (1 - share) - 20, rows, about.ranges);
}
