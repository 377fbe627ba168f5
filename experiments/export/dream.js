// The dream as a game: noise, rows, the agent, keys and buttons.

// Numbers from a seed: uniform ones, multiples of 2 ** -24 within (0, 1), and normal ones from them.
class Noise {
  constructor(seed) { this.seed = Math.floor(seed) >>> 0; }
  next() { // mulberry32
    let x = (this.seed = (this.seed + 0x6d2b79f5) >>> 0);
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (((x ^ (x >>> 14)) >>> 9) + 0.5) / 2 ** 23;
  }
  normal() { return Math.sqrt(-2 * Math.log(this.next())) * Math.cos(2 * Math.PI * this.next()); }
  // What a graph reads of noise, as tensors by name.
  of(graph) {
    return Object.fromEntries(graph.inputs.filter((input) => input.noise).map(({ name, type, shape }) =>
      [name, tensor(type, shape, Array.from({ length: sizeOf(shape) }, () => name === "normal" ? this.normal() : this.next()))]));
  }
}

// The dream and the agent, row by row.
class Dreamer {
  constructor({ about, graphs }, seed = 0) {
    this.about = about;
    this.graphs = Object.fromEntries(Object.entries(graphs).map(([name, program]) => [name, new Graph(program)]));
    this.action = this.graphs.dream.inputs.find((input) => input.name === "action");
    this.isWarm = this.graphs.dream.inputs.some((input) => input.name === "temperature");
    this.temperature = 1;
    this.greedy = true;
    this.begin(seed);
  }
  // Begins anew, with noise of this seed.
  begin(seed) {
    this.noise = new Noise(seed);
    this.world = this.graphs.dream.initial();
    this.mind = this.graphs.policy.initial();
  }
  // The next row after an action (an array; none: of a first row); noise: instead of one's own.
  step(action, noise = this.noise.of(this.graphs.dream)) {
    const { dream } = this.graphs, { type, shape } = this.action;
    const inputs = { ...this.world, ...noise, action: action ? tensor(type, shape, action) : filled(type, shape, 0) };
    inputs.reset = filled("bool", [1], action ? 0 : 1);
    if (this.isWarm) inputs.temperature = tensor("float32", [], [this.temperature]);
    const outputs = dream.run(inputs), isFirst = outputs.first.data[0] === 1;
    this.world = dream.after(outputs);
    const observation = Object.fromEntries(Object.entries(outputs).filter(([name]) => name.startsWith("observation")));
    const [reward, terminated, truncated] = ["reward", "terminated", "truncated"].map((name) => outputs[name].data[0]);
    return { first: isFirst, action: isFirst ? null : [...inputs.action.data], observation, reward, terminated, truncated };
  }
  // The agent's next action, an array, after a row.
  choose(row, noise = this.noise.of(this.graphs.policy)) {
    const { policy } = this.graphs, { type, shape } = this.action, flag = (is) => filled("bool", [1], +is);
    const last_action = row.action ? tensor(type, shape, row.action) : filled(type, shape, 0);
    const given = { last_action, reward: tensor("float32", [1], [row.reward]), first: flag(row.first), greedy: flag(this.greedy) };
    const outputs = policy.run({ ...this.mind, ...noise, ...row.observation, ...given });
    this.mind = policy.after(outputs);
    return [...outputs.action.data];
  }
  // The picture that a row's code stands for.
  imageOf(row) {
    return this.graphs.decoder ? this.graphs.decoder.run({ observation: row.observation.observation }).image : null;
  }
}

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", " ": "fire", Enter: "fire" };
const TURNS = 5; // rows a second, up to which a game waits for its player
const PAUSE = 900; // ms after the end of a game

// A game that a person or the agent plays on the page.
class Game {
  constructor(dreamer, element) {
    this.dreamer = dreamer;
    this.element = element;
    this.space = dreamer.about.action_space;
    this.names = dreamer.about.action_names;
    this.pace = dreamer.about.rows_per_second ?? 10;
    this.byTurns = this.pace <= TURNS;
    this.held = [];
    this.isAgent = true;
    this.isPaused = false;
    this.frames = 0;
    this.make();
    this.begin();
  }
  // Begins anew, with the seed of its field.
  begin() {
    this.dreamer.begin(Number(this.element("seed").value) || 0);
    this.episodes = 0;
    this.take(null);
  }
  take(action) {
    const row = this.dreamer.step(action);
    row.image = this.dreamer.imageOf(row);
    if (row.first) {
      this.rows = [];
      this.total = 0;
      this.episodes += 1;
    }
    this.rows.push({ ...row, action: row.action && this.space.kind === "Discrete" ? row.action[0] : row.action });
    this.total += row.reward;
    this.row = row;
    this.planned = this.dreamer.choose(row);
    this.show();
  }
  // One step of the game, by the agent or by what a person holds.
  advance() {
    this.take(this.row.terminated || this.row.truncated ? null : this.isAgent ? this.planned : this.chosen());
  }
  chosen() {
    if (this.sliders.length) return this.sliders.map((slider) => Number(slider.value));
    const idle = Math.max(0, this.names.indexOf("noop"));
    return [(this.space.start ?? 0) + (this.held.at(-1) ?? (this.names.includes("noop") ? idle : this.latest ?? idle))];
  }
  // A person presses or releases an action.
  press(place) {
    this.setAgent(false);
    this.latest = place;
    if (!this.held.includes(place)) this.held.push(place);
    if (this.byTurns) this.advance();
  }
  release(place) { this.held = this.held.filter((other) => other !== place); }
  setAgent(is) {
    this.isAgent = is;
    this.element("agent").setAttribute("aria-pressed", is);
  }
  setPaused(is) {
    this.isPaused = is;
    this.element("run").setAttribute("aria-pressed", !is);
  }
  show() {
    const { row } = this;
    draw(this.element("picture"), this.rows, this.dreamer.about);
    const named = row.action === null ? "–" : this.space.kind === "Discrete"
      ? this.names[row.action[0] - (this.space.start ?? 0)] ?? row.action[0] : row.action.map((x) => x.toPrecision(2)).join(" ");
    this.element("facts").textContent = `game ${this.episodes} · step ${this.rows.length - 1} · action ${named} · `
      + `reward ${Number(row.reward.toPrecision(4))} · return ${Number(this.total.toPrecision(6))}`;
    this.element("end").textContent = row.terminated || row.truncated ? this.outcome() : "";
  }
  // How the game ended, in words.
  outcome() {
    const { terminated, truncated, good } = this.dreamer.about.purpose, steps = this.rows.length - 1;
    return `${this.row.terminated ? terminated : truncated}: ${steps} step${steps === 1 ? "" : "s"}, `
      + `return ${Number(this.total.toPrecision(5))}${good === null ? "" : `, good is ${good}`}`;
  }
  // Rows as time goes by.
  tick(now) {
    const isOver = this.row.terminated || this.row.truncated;
    const waits = this.isPaused || (this.byTurns && !this.isAgent);
    const due = waits ? Infinity : isOver ? PAUSE : 1000 / this.pace;
    if (now - (this.before ?? -Infinity) >= due - 4) {
      this.before = now;
      this.frames += 1;
      this.advance();
    }
    requestAnimationFrame((next) => this.tick(next));
  }
  make() {
    const buttons = this.element("actions"), count = this.space.kind === "Discrete" ? this.space.n : 0;
    const { shape: [, ...shape] } = this.dreamer.action;
    this.sliders = [];
    for (let place = 0; place < count; place++) {
      const button = document.createElement("button");
      button.textContent = this.names[place] ?? `action ${place}`;
      button.addEventListener("pointerdown", (event) => { event.preventDefault(); this.press(place); });
      for (const kind of ["pointerup", "pointerleave", "pointercancel"])
        button.addEventListener(kind, () => this.release(place));
      buttons.append(button);
    }
    if (!count)
      for (let place = 0; place < sizeOf(shape); place++) {
        const [low, high, step] = rangeOf(this.space, place), slider = document.createElement("input");
        Object.assign(slider, { type: "range", min: low, max: high, step, value: (low + high) / 2 });
        slider.setAttribute("aria-label", `action ${place}`);
        slider.addEventListener("input", () => this.setAgent(false));
        this.sliders.push(slider);
        buttons.append(slider);
      }
    const placeOf = (key) => {
      const named = this.names.indexOf(KEYS[key] ?? "");
      if (named >= 0) return named;
      return /^[0-9]$/.test(key) && Number(key) < count ? Number(key) : KEYS[key] === "left" && count === 2 ? 0
        : KEYS[key] === "right" && count === 2 ? 1 : -1;
    };
    // of numbers the first follows left and right, the second down and up, to their ends
    const push = (key, isDown) => {
      const at = ["left", "right", "down", "up"].indexOf(KEYS[key] ?? ""), slider = this.sliders[at >> 1];
      if (at < 0 || !slider) return false;
      const ends = [Number(slider.min), Number(slider.max)];
      slider.value = isDown ? ends[at & 1] : (ends[0] + ends[1]) / 2;
      this.setAgent(false);
      return true;
    };
    const isTyping = (event) => event.target.matches("input[type=number]");
    addEventListener("keydown", (event) => {
      if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      const place = placeOf(event.key);
      if (push(event.key, true)) return event.preventDefault();
      if (place >= 0 && (this.byTurns || !event.repeat)) this.press(place);
      else if (event.key === "t") this.setAgent(!this.isAgent);
      else if (event.key === "p") this.setPaused(!this.isPaused);
      else if (event.key === "r") this.begin();
      else if (place < 0) return;
      event.preventDefault();
    });
    addEventListener("keyup", (event) => {
      this.release(placeOf(event.key));
      push(event.key, false);
    });
    addEventListener("blur", () => { this.held = []; });
    this.element("agent").addEventListener("click", () => this.setAgent(!this.isAgent));
    this.element("run").addEventListener("click", () => this.setPaused(!this.isPaused));
    this.element("restart").addEventListener("click", () => this.begin());
    this.element("seed").addEventListener("change", () => this.begin());
    this.element("greedy").addEventListener("change", ({ target }) => { this.dreamer.greedy = target.checked; });
    const warm = this.element("temperature");
    warm.disabled = !this.dreamer.isWarm;
    warm.addEventListener("input", () => {
      this.dreamer.temperature = Number(warm.value);
      this.element("degrees").textContent = Number(warm.value).toFixed(2);
    });
  }
}

// The least and the greatest of a number of an action, and its steps.
function rangeOf(space, place) {
  const of = (ends) => Number(Array.isArray(ends) ? ends[place] : ends);
  if (space.kind === "Box") return [of(space.low), of(space.high), "any"];
  const start = of(space.start ?? 0);
  return space.kind === "MultiDiscrete" ? [start, start + of([space.nvec].flat(Infinity)) - 1, 1] : [0, 1, 1];
}

const dreamer = new Dreamer(JSON.parse(document.getElementById("data").textContent));
const game = new Game(dreamer, (id) => document.getElementById(id));
game.setAgent(true);
requestAnimationFrame((now) => game.tick(now));
