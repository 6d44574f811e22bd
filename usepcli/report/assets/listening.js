// A blind listening test: plays the sounds of one trial at a time, keeps the answers, and hands them out as CSV.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const store = `usep-listening-${data.test}`;
  const state = { listener: "", at: 0, begun: false, answers: {} };
  let kept = true;
  try {
    Object.assign(state, JSON.parse(localStorage.getItem(store) || "{}"));
  } catch (fault) {
    kept = false;
  }
  let players = {}; // role -> Audio
  let current = "";
  let heard = new Set();
  let shownAt = 0;

  const remember = () => {
    try {
      localStorage.setItem(store, JSON.stringify(state));
    } catch (fault) {
      kept = false;
    }
  };
  const trial = () => data.trials[state.at];
  const answered = () => data.trials.filter((one) => state.answers[one.id]).length;
  const ready = () => data.needed.every((role) => heard.has(role) || !players[role]);

  function make(tag, text, attributes) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    return made;
  }

  function labelled(key, text, attributes) {
    const button = make("button", "", { type: "button", ...attributes });
    button.append(make("kbd", key), make("span", text));
    return button;
  }

  for (const { role, label, key } of data.roles) {
    const button = labelled(key, label, { "data-role": role, "aria-pressed": "false" });
    button.addEventListener("click", () => toggle(role));
    element("sounds").append(button);
  }
  data.answers.forEach(({ value, label }, index) => {
    const button = labelled(String(index + 1), label, { "data-answer": value, "aria-pressed": "false" });
    button.addEventListener("click", () => answer(value));
    element("answers").append(button);
  });

  function show(part) {
    for (const id of ["intro", "trial", "done"]) element(id).hidden = id !== part;
    if (part !== "trial") silence();
  }

  function silence() {
    for (const audio of Object.values(players)) {
      audio.pause();
      audio.removeAttribute("src");
    }
    players = {};
    current = "";
  }

  function present() {
    silence();
    heard = new Set(state.answers[trial().id] ? data.needed : []);
    for (const [role, uri] of Object.entries(trial().sounds)) {
      const audio = new Audio();
      audio.preload = "auto";
      audio.src = uri;
      audio.addEventListener("playing", () => {
        heard.add(role);
        refresh();
      });
      audio.addEventListener("pause", refresh);
      audio.addEventListener("ended", () => {
        audio.currentTime = 0;
        refresh();
      });
      audio.addEventListener("timeupdate", clock);
      audio.addEventListener("loadedmetadata", clock);
      audio.addEventListener("error", () => {
        element("hint").textContent = "This browser cannot play the sound; try another one.";
      });
      players[role] = audio;
    }
    for (const button of element("sounds").children) button.hidden = !players[button.dataset.role];
    data.answers.forEach(({ value, label }, index) => {
      const words = (trial().words || {})[value];
      element("answers").children[index].lastChild.textContent = words ? `${label}: ${words}` : label;
    });
    current = data.roles.find(({ role }) => players[role]).role;
    shownAt = performance.now();
    show("trial");
    element("progress").textContent =
      `Question ${state.at + 1} of ${data.trials.length}, ${answered()} answered` +
      (kept ? "" : " (this browser keeps nothing: do not close the page)");
    element("back").disabled = state.at === 0;
    refresh();
    clock();
    element("sounds").querySelector(`[data-role="${current}"]`).focus();
  }

  function refresh() {
    if (!players[current]) return;
    for (const button of element("sounds").children) {
      const { role } = button.dataset;
      const playing = players[role] && !players[role].paused && !players[role].ended;
      button.setAttribute("aria-pressed", String(Boolean(playing)));
      button.classList.toggle("chosen", role === current);
      button.classList.toggle("heard", heard.has(role));
    }
    const given = (state.answers[trial().id] || {}).answer;
    for (const button of element("answers").children) {
      button.disabled = !ready();
      button.setAttribute("aria-pressed", String(button.dataset.answer === given));
    }
    const labels = data.roles.filter(({ role }) => data.needed.includes(role)).map(({ label }) => label.toLowerCase());
    const first = data.kind === "preference" ? "A and B" : labels.join(" and ");
    element("hint").textContent = ready() ? "" : `Play ${first} first.`;
    element("skip").disabled = !given;
  }

  function toggle(role) {
    const audio = players[role];
    if (!audio) return;
    if (role === current && !audio.paused) {
      audio.pause();
      return;
    }
    const before = players[current];
    // Another sound goes on at the moment where the last one was.
    if (role !== current && before) {
      before.pause();
      const end = Number.isFinite(audio.duration) ? audio.duration : Infinity;
      audio.currentTime = before.currentTime < end - 0.05 ? before.currentTime : 0;
    }
    current = role;
    // Space belongs to the sound that was chosen last, by whatever key.
    element("sounds").querySelector(`[data-role="${role}"]`).focus();
    audio.play().catch(() => {
      element("hint").textContent = "The browser did not start the sound; press play once more.";
    });
    refresh();
    clock();
  }

  function seek(to) {
    const audio = players[current];
    if (!audio || !Number.isFinite(audio.duration)) return;
    audio.currentTime = Math.min(Math.max(0, to), Math.max(0, audio.duration - 0.01));
    clock();
  }

  function clock() {
    const audio = players[current];
    if (!audio) return;
    const total = Number.isFinite(audio.duration) ? audio.duration : 0;
    element("seek").max = String(total || 1);
    element("seek").value = String(audio.currentTime);
    element("clock").textContent = `${audio.currentTime.toFixed(1)} / ${total.toFixed(1)} s`;
  }

  function answer(value) {
    if (!ready()) {
      refresh();
      return;
    }
    const { id } = trial();
    const spent = Math.round((performance.now() - shownAt) / 100) / 10;
    const before = state.answers[id] ? state.answers[id].seconds : 0;
    state.answers[id] = { answer: value, seconds: Math.round((before + spent) * 10) / 10 };
    go(state.at + 1);
  }

  function go(to) {
    state.at = Math.max(0, to);
    remember();
    if (state.at >= data.trials.length) finish();
    else present();
  }

  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);

  function csv() {
    const lines = [["test", "listener", "trial", "kind", "answer", "seconds"]];
    for (const { id } of data.trials) {
      const given = state.answers[id];
      if (given) lines.push([data.test, state.listener, id, data.kind, given.answer, given.seconds.toFixed(1)]);
    }
    return lines.map((line) => line.map(quoted).join(",") + "\n").join("");
  }

  function finish() {
    show("done");
    const missing = data.trials.length - answered();
    element("progress").textContent = `${answered()} of ${data.trials.length} answered`;
    element("missing").textContent = missing
      ? `${missing} questions have no answer yet.`
      : "All questions are answered. Save the file and send it to whoever asked you.";
    element("csv").value = csv();
    element("save").focus();
  }

  element("intro").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = element("listener").value.trim();
    if (!name) return;
    state.listener = name;
    state.begun = true;
    go(state.at);
  });
  element("seek").addEventListener("input", (event) => seek(Number(event.target.value)));
  element("back").addEventListener("click", () => go(state.at - 1));
  element("skip").addEventListener("click", () => go(state.at + 1));
  element("again").addEventListener("click", () => {
    const open = data.trials.findIndex((one) => !state.answers[one.id]);
    go(open < 0 ? data.trials.length - 1 : open);
  });
  element("other").addEventListener("click", () => {
    if (!confirm("Have the answers been saved? They are removed from this browser.")) return;
    Object.assign(state, { listener: "", at: 0, begun: false, answers: {} });
    remember();
    element("listener").value = "";
    element("progress").textContent = "";
    show("intro");
  });
  element("save").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    const name = state.listener.replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 40);
    const link = make("a", "", { href: url, download: `answers_${name}.csv` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  element("copy").addEventListener("click", () => {
    element("csv").select();
    // The clipboard is closed to pages from disk in some browsers: the selected text can be copied by hand all the same.
    if (navigator.clipboard) navigator.clipboard.writeText(csv()).catch(() => {});
  });
  document.addEventListener("keydown", (event) => {
    if (element("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const on = document.activeElement;
    const number = Number(event.key);
    const sound = data.roles.find(({ key, role }) => key === event.key.toLowerCase() && players[role]);
    // A key held down must not answer the next question, too.
    const once = (act) => event.repeat || act();
    if (number >= 1 && number <= data.answers.length) once(() => answer(data.answers[number - 1].value));
    else if (sound) once(() => toggle(sound.role));
    else if (event.key === " " && !(on && on.tagName === "BUTTON")) once(() => toggle(current));
    else if (event.key === "ArrowLeft") seek(players[current].currentTime - 1);
    else if (event.key === "ArrowRight") seek(players[current].currentTime + 1);
    else if (event.key === "Backspace" && state.at > 0) once(() => go(state.at - 1));
    else return;
    event.preventDefault();
  });

  element("listener").value = state.listener;
  element("progress").textContent = "";
  if (state.begun && state.listener) go(state.at);
  else show("intro");
})();
