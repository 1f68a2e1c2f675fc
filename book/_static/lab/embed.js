/* The lab inside a chapter: its scripts, 3 MB, are loaded when the reader asks for them. */

(function () {
  "use strict";

  const button = document.querySelector(".kd-lab-start");

  function load(source) {
    return new Promise((resolve) => {
      const script = Object.assign(document.createElement("script"), { src: source });
      script.onload = script.onerror = resolve; // the lab itself says what is missing
      document.body.append(script);
    });
  }

  /* Pages with widgets have RequireJS, to which TensorFlow.js would give itself instead of to the page. */
  async function start() {
    button.disabled = true;
    button.textContent = "The lab is loading.";
    const define = window.define;
    window.define = undefined;
    for (const source of button.dataset.scripts.split(" ")) await load(source);
    window.define = define;
    document.querySelector("[name=kd-lab-picture]:checked, [data-lab=file]").focus();
    button.remove();
  }

  button.hidden = false;
  button.addEventListener("click", start);
})();
