"use strict";
/* Players of a page: the tracks of one recording, switched at the same moment, under one cursor.
 *
 * <div data-player="KEY"></div> becomes a player of data.players[KEY]:
 *   {label, duration, rate, sound, tracks: [{name, kind, src, color, gain, picture, note}], seams, overlay_label}
 * kind: mixture | source | residual | estimate | reference | beside.  sound: how src is to be read and played:
 *   inside: a data: URI, decoded as a whole;  streamed: "#ID" of an element that holds base64 of MP3;  linked: a relative URL.
 * rate: that of the tracks inside the page, in Hz (listen.page_rate).  gain: of playing, 1 if absent.  note: text or texts.
 * picture: what listen.picture returns, optionally with `overlay` (base64 uint8, columns x rows, not zero = marked).
 * seams: [{time, order, confidence, quiet, swapped}].
 * [data-seek="SECONDS"] (with data-player-key for another than the first player) jumps.  State: window.usep.
 */
(() => {
  const usep = (window.usep = { players: [], active: null, data: {} });
  const holder = document.getElementById("data");
  if (holder) usep.data = JSON.parse(holder.textContent);

  const LOW = 0.5; // confidence below which a seam stands out
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  const bytes = (text) => {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  };

  const clock = (t, digits = 1) => {
    const unit = 10 ** digits;
    const whole = Math.floor(t * unit + 1e-6) / unit;
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    const seconds = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
    return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${seconds}` : `${minutes}:${seconds}`;
  };

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  };

  /* ---- sound ------------------------------------------------------------------------------------------------- */

  const contexts = new Map();
  const contextAt = (rate) => {
    // One context per rate: decoding at the tracks' own rate keeps their samples as they are.
    if (!contexts.has(rate)) contexts.set(rate, new AudioContext({ sampleRate: rate }));
    return contexts.get(rate);
  };

  /** Tracks inside the page: decoded once, started together, switched by gains: aligned to the sample. */
  class Buffered {
    constructor(tracks, rate, duration) {
      Object.assign(this, { tracks, rate, duration, playing: false, position: 0, levels: tracks.map(() => 0) });
      this.wanted = false; // asked to play: decoding may take seconds, and the mind may change meanwhile
      this.nodes = [];
    }
    async load() {
      this.context = contextAt(this.rate);
      this.buffers = await Promise.all(
        this.tracks.map((track) => {
          const data = bytes(track.src.slice(track.src.indexOf(",") + 1));
          return this.context.decodeAudioData(data.buffer);
        }),
      );
    }
    async play() {
      this.wanted = true;
      if (!this.buffers) await (this.loading ||= this.load());
      await this.context.resume();
      if (this.wanted && !this.playing) this.start();
    }
    start() {
      const when = this.context.currentTime + 0.02;
      this.playing = true;
      this.origin = when - this.position;
      this.nodes = this.buffers.map((buffer, i) => {
        const source = new AudioBufferSourceNode(this.context, { buffer });
        const gain = new GainNode(this.context, { gain: this.levels[i] });
        source.connect(gain).connect(this.context.destination);
        source.start(when, this.position);
        return { source, gain };
      });
    }
    stop() {
      for (const { source, gain } of this.nodes) { source.stop(); gain.disconnect(); }
      this.nodes = [];
      this.playing = false;
    }
    pause() {
      this.wanted = false;
      if (!this.playing) return;
      this.position = this.time;
      this.stop();
    }
    seek(t) {
      const playing = this.playing;
      if (playing) this.stop();
      this.position = t;
      if (playing) this.start();
    }
    hear(levels) {
      this.levels = levels;
      // A few milliseconds of cross-fade: no click, no gap.
      this.nodes.forEach(({ gain }, i) => gain.gain.setTargetAtTime(levels[i], this.context.currentTime, 0.004));
    }
    get ended() { return this.time >= this.duration - 0.005; }
    get time() {
      return this.playing ? clamp(this.context.currentTime - this.origin, this.position, this.duration) : this.position;
    }
  }

  /** Long tracks, beside the page or in it: media elements that all run, muted but for what is heard, kept together. */
  class Streamed {
    constructor(tracks, rate, duration) {
      Object.assign(this, { tracks, duration, levels: tracks.map(() => 0), playing: false, wanted: false, position: 0 });
      this.media = tracks.map((track) => {
        const media = make("audio", { preload: "metadata", ...(track.src.startsWith("#") ? {} : { src: track.src }) });
        media.preservesPitch = false; // a nudge of one per cent shall not go through a time stretcher
        return media;
      });
    }
    get lead() { return this.media[Math.max(0, this.levels.findIndex((level) => level > 0))]; }
    get time() { return this.playing ? clamp(this.lead.currentTime, 0, this.duration) : this.position; }
    // A file may be a little shorter than it says: its end is the end.
    get ended() { return this.playing && (this.lead.ended || this.time >= this.duration - 0.005); }
    /** At the first play, what lies in the page as text becomes files in the browser's memory. */
    async load() {
      if (document.readyState === "loading") {
        // The texts come last in the page: not all may have been read yet.
        await new Promise((go) => document.addEventListener("DOMContentLoaded", go, { once: true }));
      }
      this.tracks.forEach((track, i) => {
        if (!track.src.startsWith("#")) return;
        const held = document.getElementById(track.src.slice(1));
        if (!held) throw new Error("the page is not complete");
        this.media[i].src = URL.createObjectURL(new Blob([bytes(held.textContent)], { type: "audio/mpeg" }));
      });
    }
    async play() {
      this.wanted = true;
      await (this.loading ||= this.load());
      if (!this.wanted) return;
      this.seek(this.position);
      await Promise.all(this.media.map((media) => media.play()));
      if (!this.wanted || this.playing) return;
      this.playing = true;
      this.timer = setInterval(() => this.align(), 50);
    }
    /** Let who is late run faster: no jump, so nothing is lost when the ear moves over. */
    align() {
      const at = this.lead.currentTime;
      for (const media of this.media) {
        const late = media === this.lead ? 0 : at - media.currentTime;
        // All of them: where a jump ends is only alike for tracks that jump together.
        if (Math.abs(late) > 1) return this.seek(at);
        const most = media.muted ? 0.5 : 0.01;
        const rate = Math.abs(late) < 0.002 ? 1 : 1 + clamp(10 * late, -most, most);
        if (media.playbackRate !== rate) media.playbackRate = rate;
      }
    }
    pause() {
      const at = this.time;
      clearInterval(this.timer);
      this.playing = this.wanted = false;
      for (const media of this.media) media.pause();
      this.seek(at);
    }
    seek(t) {
      this.position = t;
      for (const media of this.media) media.currentTime = t;
    }
    hear(levels) {
      this.levels = levels;
      this.media.forEach((media, i) => {
        media.volume = clamp(levels[i], 0, 1);
        media.muted = levels[i] === 0;
      });
    }
  }

  /* ---- pictures ---------------------------------------------------------------------------------------------- */

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const mix = (a, b, x) => a.map((value, i) => Math.round(value + (b[i] - value) * x));

  const colorOf = (track, index) => {
    if (track.kind === "mixture") return style("--mixture");
    if (track.kind === "residual") return style("--residual");
    return style(`--source-${((track.color ?? index) % 8) + 1}`);
  };

  /** A palette from the panel through the track's colour to the ink: brightness alone tells the level. */
  const palette = (color) => {
    const stops = [rgb(style("--panel")), rgb(color), rgb(style("--spectrum-top"))];
    return Array.from({ length: 256 }, (_, i) => {
      const x = i / 255;
      return x < 0.62 ? mix(stops[0], stops[1], (x / 0.62) ** 1.5) : mix(stops[1], stops[2], (x - 0.62) / 0.38);
    });
  };

  const RANGE_DB = 62, ACTIVE_DB = 40; // below the loudest: where a spectrogram and an activity strip end
  const unpack = (picture) => ({
    ...picture, codes: bytes(picture.spectrum),
    low: new Int8Array(bytes(picture.low).buffer), high: new Int8Array(bytes(picture.high).buffer),
    level: bytes(picture.level), marked: picture.overlay ? bytes(picture.overlay) : null,
  });

  const paint = (picture, color, top) => {
    const { columns, rows, codes } = picture;
    const canvas = make("canvas", { width: Math.max(1, columns), height: rows });
    const image = new ImageData(Math.max(1, columns), rows), shades = palette(color);
    const range = (RANGE_DB / -picture.floor_db) * 255;
    for (let c = 0; c < columns; c++) {
      for (let r = 0; r < rows; r++) {
        const shade = shades[clamp(Math.round(((codes[c * rows + r] - (top - range)) / range) * 255), 0, 255)];
        image.data.set([...shade, 255], ((rows - 1 - r) * columns + c) * 4);
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  };

  const paintMarks = (picture, color) => {
    const { columns, rows, marked } = picture;
    const canvas = make("canvas", { width: Math.max(1, columns), height: rows });
    const image = new ImageData(Math.max(1, columns), rows), shade = rgb(color);
    for (let c = 0; c < columns; c++) {
      for (let r = 0; r < rows; r++) {
        if (marked[c * rows + r]) image.data.set([...shade, 190], ((rows - 1 - r) * columns + c) * 4);
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  };

  /* ---- the player -------------------------------------------------------------------------------------------- */

  class Player {
    constructor(host, spec) {
      Object.assign(this, { host, spec, tracks: spec.tracks, duration: spec.duration, seams: spec.seams || [] });
      this.view = { from: 0, to: this.duration };
      this.sound = new (["streamed", "linked"].includes(spec.sound) ? Streamed : Buffered)(this.tracks, spec.rate, this.duration);
      this.pictures = this.tracks.map((track) => (track.picture ? unpack(track.picture) : null));
      this.marks = this.pictures.some((picture) => picture && picture.marked);
      this.top = this.peak = this.loud = 1;
      for (const picture of this.pictures) {
        if (!picture) continue;
        for (const code of picture.codes) if (code > this.top) this.top = code;
        for (const code of picture.level) if (code > this.loud) this.loud = code;
        for (let c = 0; c < picture.columns; c++) this.peak = Math.max(this.peak, -picture.low[c], picture.high[c]);
      }
      this.chosen = new Set();
      this.build();
      const mixture = this.tracks.findIndex((track) => track.kind === "mixture");
      this.choose([Math.max(0, mixture)]);
      this.color();
      new ResizeObserver(() => this.draw()).observe(this.lanes);
    }

    /* state that tests and pages may read */
    get time() { return this.sound.time; }
    get playing() { return this.sound.playing; }
    get hearing() { return [...this.chosen].sort((a, b) => a - b).map((i) => this.tracks[i].name); }

    build() {
      const button = (text, label, act, extra = {}) =>
        make("button", { type: "button", text, "aria-label": label, title: label, onclick: act, ...extra });
      this.button = button("▶", "Play (space)", () => this.toggle(), { class: "play" });
      this.clock = make("span", { class: "clock" });
      this.heard = make("span", { class: "hearing", "aria-live": "polite" });
      const bar = make("div", { class: "bar" }, this.button, this.clock, this.heard, make("span", { class: "gap" }));
      if (this.summed().length > 1) bar.append(button("All sources", "All sources together (s)", () => this.sum(), { class: "sum" }));
      if (this.marks) {
        const label = this.spec.overlay_label || "Marks";
        this.shown = true;
        const toggle = () => {
          this.shown = !this.shown;
          this.marker.setAttribute("aria-pressed", this.shown);
          this.draw();
        };
        this.marker = button(label, `Show or hide: ${label}`, toggle, { class: "marks", "aria-pressed": "true" });
        bar.append(this.marker);
      }
      bar.append(
        make("span", { class: "group" },
          button("−", "Zoom out (-)", () => this.zoom(0.5)), button("+", "Zoom in (+)", () => this.zoom(2))),
        button("?", "Keys (?)", help, { class: "help" }),
      );
      this.ruler = make("canvas", {
        class: "ruler", tabindex: "0", role: "slider", "aria-label": "Position", "aria-valuemin": "0",
        "aria-valuemax": this.duration.toFixed(1),
      });
      this.lanes = make("div", { class: "lanes" });
      this.stages = [];
      this.lanes.append(make("div", { class: "lane top" }, make("div", { class: "head" }), this.stage(this.ruler)));
      this.parts = this.tracks.map((track, i) => this.lane(track, i));
      this.scroll = make("input", {
        type: "range", class: "scroll", min: "0", step: "any", "aria-label": "Part of the recording that is shown", hidden: true,
        oninput: () => this.look(+this.scroll.value, +this.scroll.value + this.view.to - this.view.from),
      });
      this.host.classList.add("player");
      this.host.setAttribute("role", "region");
      this.host.setAttribute("aria-label", `Player: ${this.spec.label}`);
      this.host.tabIndex = -1;
      this.host.replaceChildren(bar, this.lanes, this.scroll);
      this.host.addEventListener("pointerdown", () => (usep.active = this), true);
      this.host.addEventListener("focusin", () => (usep.active = this));
      // After a click the keys belong to the player again, not to the button that was clicked.
      this.host.addEventListener("click", (event) => event.detail && this.host.focus({ preventScroll: true }));
    }

    stage(canvas) {
      const cursor = make("div", { class: "cursor" }), ghost = make("div", { class: "ghost", hidden: true });
      const stage = make("div", { class: "stage" }, canvas, ghost, cursor);
      const at = (event) => {
        const box = stage.getBoundingClientRect();
        return this.view.from + clamp((event.clientX - box.left) / box.width, 0, 1) * (this.view.to - this.view.from);
      };
      stage.addEventListener("click", (event) => this.seek(canvas === this.ruler ? this.snap(at(event)) : at(event)));
      stage.addEventListener("pointermove", (event) => this.point(at(event), event));
      stage.addEventListener("pointerleave", () => this.point(null));
      stage.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        this.zoom(event.deltaY < 0 ? 1.25 : 0.8, at(event));
      }, { passive: false });
      this.stages.push({ stage, cursor, ghost });
      return stage;
    }

    lane(track, i) {
      const number = track.kind === "mixture" ? 0 : this.tracks.filter((t, j) => j <= i && t.kind !== "mixture").length;
      const canvas = make("canvas", { class: "picture", role: "img", "aria-label": `Waveform and spectrogram: ${track.name}` });
      const solo = make("button", { type: "button", class: "solo", "aria-pressed": "false", onclick: () => this.choose([i]) },
        make("kbd", { text: number < 10 ? number : "·" }), make("span", { class: "name", text: track.name }));
      const box = make("input", { type: "checkbox", "aria-label": `${track.name} heard`, onchange: () => this.add(i) });
      const head = make("div", { class: "head" }, solo,
        make("label", { class: "also", title: "Hear it together with the others, or mute it" }, box, "heard"));
      const notes = [track.note || []].flat().map((text) => make("span", { text }));
      if (notes.length) head.append(make("div", { class: "note" }, ...notes));
      const lane = make("div", { class: `lane ${track.kind}` }, head, this.stage(canvas));
      this.lanes.append(lane);
      return { lane, canvas, solo, box, number };
    }

    color() {
      this.colors = this.tracks.map((track, i) => colorOf(track, this.parts[i].number - 1));
      this.images = this.pictures.map((picture, i) => picture && paint(picture, this.colors[i], this.top));
      this.holes = this.pictures.map((picture) => picture && picture.marked && paintMarks(picture, style("--mark")));
      this.parts.forEach((part, i) => part.lane.style.setProperty("--track", this.colors[i]));
      this.draw();
    }

    /* actions */
    async play() {
      for (const other of usep.players) if (other !== this) other.pause();
      usep.active = this;
      if (this.time >= this.duration - 0.02) this.sound.seek(0);
      this.host.classList.add("busy");
      try {
        await this.sound.play();
      } catch (fault) {
        if (!this.sound.wanted) return; // stopped before it began
        this.sound.pause();
        this.heard.textContent = this.spec.sound === "linked"
          ? "The sound files beside this page cannot be played; were they moved?"
          : `This browser cannot play the sound: ${fault.message}`;
        return;
      } finally {
        this.host.classList.remove("busy");
      }
      this.refresh();
      const follow = () => {
        if (!this.playing) return;
        if (this.sound.ended) this.finish();
        this.tick(true);
        this.frame = requestAnimationFrame(follow);
      };
      cancelAnimationFrame(this.frame);
      follow();
    }
    pause() { this.sound.pause(); this.refresh(); }
    finish() { this.pause(); this.sound.seek(this.duration); }
    toggle() { return this.sound.wanted ? this.pause() : this.play(); }
    seek(t) {
      this.sound.seek(clamp(t, 0, this.duration));
      this.tick();
    }
    choose(indices) {
      this.chosen = new Set(indices);
      this.sound.hear(this.tracks.map((track, i) => (this.chosen.has(i) ? track.gain ?? 1 : 0)));
      this.refresh();
    }
    add(i) {
      const next = new Set(this.chosen);
      if (!next.delete(i)) next.add(i);
      this.choose(next);
    }
    /** Indices of what adds up: the tracks of the first kind that is no mixture, and the rest. */
    summed() {
      const kind = (this.tracks.find((track) => track.kind !== "mixture") || {}).kind;
      return this.tracks.flatMap((track, i) => (track.kind === kind || track.kind === "residual" ? [i] : []));
    }
    sum() { this.choose(this.summed()); }
    number(n) {
      const found = this.parts.findIndex((part) => part.number === n);
      return found;
    }
    hop(direction) {
      const times = this.seams.map((seam) => seam.time), now = this.time;
      const next = direction > 0 ? times.find((t) => t > now + 0.05) : times.findLast((t) => t < now - 0.3);
      if (next !== undefined) this.seek(next);
    }
    snap(t) {
      const reach = ((this.view.to - this.view.from) / Math.max(1, this.ruler.clientWidth)) * 7;
      const near = this.seams.map((seam) => seam.time).sort((a, b) => Math.abs(a - t) - Math.abs(b - t))[0];
      return near !== undefined && Math.abs(near - t) <= reach ? near : t;
    }
    zoom(factor, about = clamp(this.time, this.view.from, this.view.to)) {
      const width = clamp((this.view.to - this.view.from) / factor, Math.min(0.5, this.duration), this.duration);
      const from = about - ((about - this.view.from) / (this.view.to - this.view.from)) * width;
      this.look(from, from + width);
    }
    look(from, to) {
      const width = to - from, start = clamp(from, 0, Math.max(0, this.duration - width));
      this.view = { from: start, to: start + width };
      this.scroll.hidden = width >= this.duration - 1e-6;
      this.scroll.max = this.duration - width;
      this.scroll.value = start;
      this.draw();
    }

    /* what is seen */
    refresh() {
      this.button.textContent = this.playing ? "❚❚" : "▶";
      this.button.setAttribute("aria-label", this.playing ? "Pause (space)" : "Play (space)");
      this.host.classList.toggle("playing", this.playing);
      const names = this.hearing;
      this.heard.textContent = names.length ? names.join(" + ") : "nothing";
      this.parts.forEach((part, i) => {
        const on = this.chosen.has(i);
        part.solo.setAttribute("aria-pressed", on && this.chosen.size === 1);
        part.box.checked = on;
        part.lane.classList.toggle("on", on);
      });
      this.tick();
    }
    tick(follow = false) {
      const t = this.time, { from, to } = this.view;
      if (follow && (t < from || t > to) && to - from < this.duration) return this.look(t, t + to - from);
      const x = ((t - from) / (to - from)) * 100;
      for (const { cursor } of this.stages) {
        cursor.style.left = `${x}%`;
        cursor.hidden = x < 0 || x > 100;
      }
      this.clock.textContent = `${clock(t)} / ${clock(this.duration)}`;
      this.ruler.setAttribute("aria-valuenow", t.toFixed(1));
      this.ruler.setAttribute("aria-valuetext", clock(t));
    }
    point(t, event) {
      const x = t === null ? 0 : ((t - this.view.from) / (this.view.to - this.view.from)) * 100;
      for (const { ghost } of this.stages) {
        ghost.hidden = t === null || event.pointerType === "touch";
        ghost.style.left = `${x}%`;
      }
      if (t === null) return;
      const seam = this.seams.find((one) => one.time === this.snap(t));
      this.ruler.title = seam
        ? `Seam at ${clock(seam.time)}: order ${seam.order.join(" ")}, confidence ${Math.round(100 * seam.confidence)} %`
        : clock(t);
    }
    draw() {
      if (!this.images) return;
      this.parts.forEach((part, i) => this.drawLane(part.canvas, i));
      this.drawRuler();
      this.tick();
    }
    fit(canvas) {
      const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const pen = canvas.getContext("2d");
      pen.scale(scale, scale);
      return { pen, width, height };
    }
    x(t, width) { return ((t - this.view.from) / (this.view.to - this.view.from)) * width; }

    drawLane(canvas, i) {
      const { pen, width, height } = this.fit(canvas), picture = this.pictures[i];
      if (!width || !picture) return;
      const strip = 8, wave = Math.round((height - strip) * 0.34);
      const below = { y: wave + strip, h: height - wave - strip };
      this.drawWave(pen, width, wave, picture, this.colors[i]);
      this.drawActivity(pen, width, wave, strip, picture, this.colors[i]);
      const first = this.view.from / picture.step_s, span = (this.view.to - this.view.from) / picture.step_s;
      pen.imageSmoothingEnabled = true;
      pen.drawImage(this.images[i], first, 0, span, picture.rows, 0, below.y, width, below.h);
      if (this.holes[i] && this.shown) pen.drawImage(this.holes[i], first, 0, span, picture.rows, 0, below.y, width, below.h);
      this.drawHertz(pen, below, picture);
      this.drawSeams(pen, width, height);
    }
    /** Frequencies at the left edge of a spectrogram, whose rows are the middles of mel bands (listen.mel_bands). */
    drawHertz(pen, { y, h }, { rows, hz }) {
      const mel = (f) => Math.log1p(f / 700), top = mel(hz[1]);
      pen.save();
      pen.font = `10px ${style("--font")}`;
      pen.textBaseline = "middle";
      pen.lineWidth = 3;
      pen.lineJoin = "round";
      pen.strokeStyle = style("--panel");
      pen.fillStyle = style("--ink");
      for (const f of [250, 1000, 4000, 16000]) {
        const at = y + h * (1 - ((mel(f) / top) * (rows + 1) - 0.5) / rows);
        if (at < y + 6 || at > y + h - 6) continue;
        const text = f < 1000 ? `${f} Hz` : `${f / 1000} kHz`;
        pen.strokeText(text, 3, at);
        pen.fillText(text, 3, at);
      }
      pen.restore();
    }
    drawWave(pen, width, height, picture, color) {
      const middle = height / 2, scale = (middle - 2) / this.peak;
      pen.fillStyle = color;
      pen.beginPath();
      for (let x = 0; x < width; x++) {
        const at = (place) => (this.view.from + ((this.view.to - this.view.from) * place) / width) / picture.step_s;
        const begin = Math.floor(at(x)), end = Math.max(begin + 1, Math.floor(at(x + 1)));
        let low = 0, high = 0;
        for (let c = begin; c < end && c < picture.columns; c++) {
          low = Math.min(low, picture.low[c]);
          high = Math.max(high, picture.high[c]);
        }
        pen.rect(x, middle - high * scale - 0.5, 1, (high - low) * scale + 1);
      }
      pen.fill();
    }
    drawActivity(pen, width, y, height, picture, color) {
      const range = (ACTIVE_DB / -picture.floor_db) * 255;
      pen.fillStyle = color;
      for (let x = 0; x < width; x++) {
        const at = (place) => (this.view.from + ((this.view.to - this.view.from) * place) / width) / picture.step_s;
        const begin = Math.floor(at(x)), end = Math.max(begin + 1, Math.floor(at(x + 1)));
        let level = 0;
        for (let c = begin; c < end && c < picture.columns; c++) level = Math.max(level, picture.level[c]);
        pen.globalAlpha = 0.08 + 0.92 * clamp((level - this.loud + range) / range, 0, 1);
        pen.fillRect(x, y + 2, 1, height - 4);
      }
      pen.globalAlpha = 1;
    }
    drawSeams(pen, width, height) {
      const dense = this.seams.length && (width / this.seams.length) * (this.duration / (this.view.to - this.view.from)) < 14;
      for (const seam of this.seams) {
        const low = seam.confidence < LOW && !seam.quiet;
        const x = Math.round(this.x(seam.time, width)) + 0.5;
        if (x < 0 || x > width || (dense && !low)) continue;
        pen.strokeStyle = style(low ? "--mark" : "--seam");
        pen.setLineDash(low ? [] : [2, 4]);
        pen.beginPath();
        pen.moveTo(x, 0);
        pen.lineTo(x, height);
        pen.stroke();
      }
      pen.setLineDash([]);
    }
    drawRuler() {
      const { pen, width, height } = this.fit(this.ruler);
      if (!width) return;
      const span = this.view.to - this.view.from;
      const steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
      const step = steps.find((s) => (s / span) * width >= 64) || 7200;
      pen.font = `11px ${style("--font")}`;
      pen.fillStyle = style("--quiet");
      pen.textBaseline = "middle";
      for (let k = Math.ceil(this.view.from / step); k * step <= this.view.to; k++) {
        const x = this.x(k * step, width), text = clock(k * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
        pen.fillRect(Math.round(x), height - 5, 1, 5);
        if (x + 4 + pen.measureText(text).width <= width) pen.fillText(text, x + 4, height - 7);
      }
      for (const seam of this.seams) {
        const x = this.x(seam.time, width), low = seam.confidence < LOW && !seam.quiet;
        if (x < 0 || x > width) continue;
        const size = low ? 5 : 3;
        pen.fillStyle = style(low ? "--mark" : "--seam-mark");
        pen.beginPath();
        pen.moveTo(x - size, 0);
        pen.lineTo(x + size, 0);
        pen.lineTo(x, size * 1.7);
        pen.fill();
      }
    }
  }

  /* ---- keys -------------------------------------------------------------------------------------------------- */

  const KEYS = [
    ["Space", "play or pause"], ["← →", "back or on (with Shift: five times as far)"], ["Home", "to the beginning"],
    ["0 or M", "the mixture"], ["1 … 9", "one source alone (with Shift: add or remove it)"], ["S", "sum of all sources"],
    ["N P", "next or previous seam"], ["+ −", "zoom in or out (also Ctrl and wheel)"], ["?", "this list"],
  ];
  let dialog = null;
  const help = () => {
    if (!dialog) {
      const rows = KEYS.map(([key, what]) => make("tr", {}, make("th", { text: key, scope: "row" }), make("td", { text: what })));
      const close = make("button", { type: "button", text: "Close", onclick: () => dialog.close() });
      dialog = make("dialog", { class: "keys", "aria-label": "Keys" }, make("h2", { text: "Keys" }), make("table", {}, ...rows), close);
      document.body.append(dialog);
    }
    if (dialog.open) dialog.close();
    else dialog.showModal();
  };

  const act = (player, event) => {
    const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code || "") || /^(\d)$/.exec(event.key);
    const far = clamp((player.view.to - player.view.from) / 30, 0.25, 5) * (event.shiftKey ? 5 : 1);
    if (digit) {
      const found = player.number(+digit[1]);
      if (found >= 0) event.shiftKey ? player.add(found) : player.choose([found]);
      return found >= 0;
    }
    const actions = {
      " ": () => event.repeat || player.toggle(), ArrowLeft: () => player.seek(player.time - far), ArrowRight: () => player.seek(player.time + far),
      Home: () => player.seek(0), End: () => player.seek(player.duration), s: () => player.summed().length > 1 && player.sum(),
      m: () => player.number(0) >= 0 && player.choose([player.number(0)]), n: () => player.hop(1), p: () => player.hop(-1),
      "+": () => player.zoom(2), "=": () => player.zoom(2), "-": () => player.zoom(0.5), "?": help,
    };
    const action = actions[event.key] || actions[event.key.toLowerCase()];
    if (action) action();
    return Boolean(action);
  };

  document.addEventListener("keydown", (event) => {
    const player = usep.active || usep.players[0];
    if (!player || event.ctrlKey || event.metaKey || event.altKey || (dialog && dialog.open && event.key !== "?")) return;
    if (event.target.matches("textarea, select, input:not([type=checkbox])")) return;
    // On a button or link that has the focus, space does what it says.
    if (event.key === " " && event.target.matches("button, a, summary, input")) return;
    if (act(player, event)) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-seek]");
    if (!target) return;
    const player = usep.players.find((p) => p.key === target.dataset.playerKey) || usep.players[0];
    if (!player) return;
    usep.active = player;
    const t = +target.dataset.seek;
    player.seek(t);
    if (t < player.view.from || t > player.view.to) player.look(t - (player.view.to - player.view.from) / 2, t + (player.view.to - player.view.from) / 2);
    player.host.scrollIntoView({ block: "nearest" });
    if (event.detail) player.host.focus({ preventScroll: true });
  });

  /** Click on a head of table.sortable sorts by this column: numbers by data-value or as such, else as text. */
  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const sort = () => {
        const down = head.getAttribute("aria-sort") === "ascending", body = table.tBodies[0];
        table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          const order = x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y, "en", { numeric: true });
          return down ? -order : order;
        });
        body.append(...rows);
      };
      const button = make("button", { type: "button", onclick: sort }, ...head.childNodes);
      head.replaceChildren(button);
    });
  }

  for (const host of document.querySelectorAll("[data-player]")) {
    const spec = (usep.data.players || {})[host.dataset.player];
    if (!spec) continue;
    const player = new Player(host, spec);
    player.key = host.dataset.player;
    usep.players.push(player);
  }
  dark.addEventListener("change", () => usep.players.forEach((player) => player.color()));
  Object.assign(usep, { Buffered, Streamed, Player, make, clock, bytes, help });
})();
