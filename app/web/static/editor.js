// The preview follows what is typed. Without this script its buttons show the mail all the same, when they are pressed.
"use strict";

const letter = document.querySelector("form[data-editor]");

if (letter) {
  const about = document.querySelector(".preview .about"), frame = document.querySelector(".preview .frame");
  const PAUSE = 500;
  // What a refused page brought back is not saved either.
  const saved = letter.querySelector(".wrong:not([hidden])") ? "" : contents();
  let timer = 0, turn = 0, sending = false;

  function contents() {
    const fields = new URLSearchParams(new FormData(letter));
    fields.delete("email");
    return fields.toString();
  }

  // What is still empty is not wrong yet: then the problem stands beside the preview only.
  function tell(field, problem) {
    const begun = (element) => element && (element.tagName === "FIELDSET" || element.value.trim() !== "");
    for (const told of letter.querySelectorAll(".wrong")) {
      const element = letter.querySelector(`[aria-describedby="${told.id}"]`);
      const here = told.id === `wrong-${field}` && Boolean(begun(element));
      told.textContent = here ? problem : "";
      told.hidden = !here;
      element?.toggleAttribute("data-wrong", here);
      if (!here) element?.removeAttribute("aria-invalid");
    }
  }

  async function show(random) {
    const mine = ++turn;
    const body = new URLSearchParams(new FormData(letter));
    if (random) body.set("random", "1");
    let answer;
    try {
      answer = await fetch("/campaigns/preview/about", {method: "POST", body, headers: {"X-CSRF-Token": letter.elements.csrf.value}});
    } catch {
      return;
    }
    if (mine !== turn || !answer.ok) return;
    about.innerHTML = await answer.text();
    const problem = about.querySelector("[data-wrong]");
    tell(problem?.dataset.wrong ?? "", problem?.textContent ?? "");
    if (problem) return;
    const email = document.querySelector(".preview [name=email]");
    if (random) email.value = about.querySelector("[data-reader]").dataset.reader;
    // A frame of its own each time: one that is led elsewhere would make the browser's way back longer.
    const old = frame.querySelector("iframe"), fresh = old.cloneNode();
    fresh.name = `mail-${mine}`;
    frame.append(fresh);
    const button = document.querySelector("[data-preview]:not([name])");
    button.formTarget = fresh.name;
    button.dataset.quiet = "1";
    letter.requestSubmit(button);
    delete button.dataset.quiet;
    fresh.addEventListener("load", () => old.remove(), {once: true});
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(show, PAUSE, false);
  }

  letter.addEventListener("input", soon);
  document.querySelector(".preview [name=email]").addEventListener("input", soon);
  letter.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (button?.dataset.preview === undefined) {
      sending = true;
    } else if (!button.dataset.quiet) {
      event.preventDefault();
      show(button.name === "random");
    }
  });
  window.addEventListener("beforeunload", (event) => {
    if (!sending && contents() !== saved) event.preventDefault();
  });
  if (!letter.querySelector(".wrong:not([hidden])")) show(false);
}
