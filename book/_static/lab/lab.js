/* The page: controls, two pictures, and what the teacher says about them. */

(function (lab) {
  "use strict";

  const SIDE = 32, LARGEST = 5, WAIT = 120; // milliseconds without a change before the teacher is asked
  const root = document.getElementById("kd-lab"), part = (name) => root.querySelector(`[data-lab="${name}"]`);
  const state = { image: null, about: "", logits: null, asked: 0 };

  /* Levels channel by channel to the pixels of a canvas, and back. */
  function paint(canvas, image) {
    const pixels = new ImageData(SIDE, SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = image[c * SIDE * SIDE + i];
      pixels.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function levels(canvas) {
    const pixels = canvas.getContext("2d").getImageData(0, 0, SIDE, SIDE).data, image = new Uint8Array(3 * SIDE * SIDE);
    for (let k = 0; k < image.length; k++) image[k] = pixels[4 * (k % (SIDE * SIDE)) + Math.floor(k / (SIDE * SIDE))];
    return image;
  }

  /* The largest square in the middle of a picture of the reader's, as 32 x 32 pixels on white. */
  async function squeezed(file) {
    const picture = await createImageBitmap(file), side = Math.min(picture.width, picture.height);
    const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, SIDE, SIDE);
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    return levels(canvas);
  }

  function take(image, about) {
    Object.assign(state, { image, about });
    draw();
  }

  async function takeFile(file) {
    if (!file) return;
    try {
      const image = await squeezed(file);
      root.querySelectorAll("[name=kd-lab-picture]").forEach((radio) => (radio.checked = false));
      take(image, `your picture ${file.name}`);
    } catch (error) {
      part("said").textContent = `${file.name} is not a picture that this browser reads.`;
    }
  }

  /* The views that the controls ask for. One seed gives one set of draws, so that p alone decides how many ops fire. */
  lab.views = function () {
    const { ops } = lab.lists[part("list").value], p = Number(part("p").value);
    const draws = lab.uniforms(Number(part("seed").value), 2 * ops.length + 6), augmented = draws.slice(6);
    const crop = (image, k) => (part("crop").checked ? lab.cropFlip(image, draws.slice(3 * k, 3 * k + 3)) : image);
    return {
      original: crop(state.image, 0),
      augmented: crop(lab.jda(state.image, ops, p, augmented), 1),
      fired: lab.fired(ops, p, augmented),
    };
  };

  function opName({ name, magnitude, sign }) {
    const op = lab.ops[name], idle = op.magnitudes && op.magnitudes[magnitude] === op.neutral;
    const about = idle ? " (no change)" : op.signed ? (sign > 0 ? " (+)" : " (−)") : "";
    return `${name} ${magnitude}${about}`.replace(/ /g, "\u00a0");
  }

  function draw() {
    if (!state.image) return;
    const views = lab.views(), names = views.fired.map(opName);
    const undone = part("crop").checked ? "No operation fired: only the crops differ." : "No operation fired: both views are the picture.";
    part("ops").textContent = names.length ? `Fired, in this order: ${names.join(", ")}.` : undone;
    for (const name of ["original", "augmented"]) {
      paint(part(name), views[name]);
      part(name).setAttribute("aria-label", `${name} view of ${state.about}`);
    }
    ask([views.original, views.augmented]);
  }

  function ask(images) {
    if (lab.lacks()) {
      part("said").textContent = lab.lacks();
      return;
    }
    const turn = ++state.asked;
    root.setAttribute("aria-busy", "true");
    setTimeout(async () => {
      if (turn !== state.asked) return; // something changed meanwhile
      const logits = await lab.logits(images);
      if (turn !== state.asked) return;
      state.logits = logits;
      root.setAttribute("aria-busy", "false");
      say();
    }, WAIT);
  }

  function row([name, share]) {
    const item = document.createElement("li"), percent = (100 * share).toFixed(1);
    for (const [kind, text] of [["name", name], ["share", `${percent} %`], ["bar", ""]]) {
      const span = Object.assign(document.createElement("span"), { className: `kd-lab-${kind}`, textContent: text });
      if (kind === "bar") span.style.setProperty("--share", `${percent}%`);
      item.append(span);
    }
    return item;
  }

  function say() {
    if (!state.logits) return;
    const temperature = Number(part("temperature").value), [x, augmented] = state.logits, cosine = lab.cosine(x, augmented);
    part("original answers").replaceChildren(...lab.largest(x, temperature, LARGEST).map(row));
    part("augmented answers").replaceChildren(...lab.largest(augmented, temperature, LARGEST).map(row));
    part("said").textContent = `The cosine of the two answers is ${cosine.toFixed(3)}, so CCD weighs the augmented view by w\u00a0=\u00a0${(cosine + 1).toFixed(3)}.`;
  }

  /* The list's own p, when a list is chosen. */
  function choose() {
    part("p").value = lab.lists[part("list").value].p;
    show();
    draw();
  }

  function show() {
    root.querySelectorAll("output").forEach((output) => (output.value = Number(part(output.dataset.of).value).toFixed(output.dataset.digits)));
  }

  function offer(picture, k) {
    const image = Uint8Array.from(atob(picture.pixels), (c) => c.charCodeAt(0)), name = picture.label.replace(/_/g, " ");
    const label = document.createElement("label"), canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "kd-lab-picture", checked: k === 0 });
    radio.setAttribute("aria-label", name);
    radio.addEventListener("change", () => take(image, `a picture of class ${name}`));
    paint(canvas, image);
    canvas.setAttribute("aria-hidden", "true");
    label.append(radio, canvas, name);
    part("pictures").append(label);
    return () => take(image, `a picture of class ${name}`);
  }

  function listen() {
    part("list").addEventListener("change", choose);
    part("again").addEventListener("click", () => { part("seed").value = Number(part("seed").value) + 1; draw(); });
    for (const name of ["p", "seed", "crop"]) part(name).addEventListener("input", () => { show(); draw(); });
    part("temperature").addEventListener("input", () => { show(); say(); });
    part("file").addEventListener("change", (event) => takeFile(event.target.files[0]));
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => { event.preventDefault(); takeFile(event.dataTransfer.files[0]); });
  }

  root.hidden = false;
  for (const name of Object.keys(lab.lists)) part("list").add(new Option(name, name));
  part("p").value = lab.lists.cifar100.p;
  const [first] = (lab.pictures || []).map(offer);
  listen();
  show();
  if (first) first();
  else part("said").textContent = "The example pictures are not in this copy of the book: choose one of your own.";
})((window.kdlab = window.kdlab || {}));
