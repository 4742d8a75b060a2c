// What the console does in the browser besides htmx: times in the viewer's zone, questions before what cannot be
// taken back, and saying so when the server has gone.
"use strict";

// The viewer's own kind of the page's language: en-GB and en-US write dates differently.
const short = document.documentElement.lang.slice(0, 2);
const language = navigator.languages.find((one) => one.startsWith(short)) ?? document.documentElement.lang;
const clock = new Intl.DateTimeFormat(language, {dateStyle: "medium", timeStyle: "medium"});
const precise = new Intl.DateTimeFormat(language, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});
const since = new Intl.RelativeTimeFormat(language, {numeric: "always", style: "short"});
const now = new Intl.RelativeTimeFormat(language, {numeric: "auto"}).format(0, "second");
const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function ago(seconds) {
  const [unit, size] = steps.find(([, size]) => Math.abs(seconds) >= size) ?? steps[3];
  const count = Math.trunc(seconds / size);
  return count ? since.format(-count, unit) : now;
}

function showTimes(where) {
  for (const time of where.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const exact = "exact" in time.dataset ? precise.format(at) : clock.format(at);
    const text = "ago" in time.dataset ? ago((Date.now() - at) / 1000) : exact;
    if (time.textContent !== text) time.textContent = text;
    if (time.title !== time.dateTime) time.title = "ago" in time.dataset ? exact : time.dateTime;
  }
}

// An observer sees what htmx brings before it is painted, whatever its events are called; also a text in its old place.
new MutationObserver(() => showTimes(document)).observe(document.body, {childList: true, characterData: true, subtree: true});
setInterval(() => document.hidden || showTimes(document), 1000);
showTimes(document);

// A page that nobody looks at asks for nothing.
document.addEventListener("htmx:before:request", (event) => {
  if (document.hidden && event.target.matches("#live, [data-follow]")) event.preventDefault();
});
const lost = document.getElementById("lost");
const tell = (gone) => { if (lost && lost.hidden === gone) lost.hidden = !gone; };
document.addEventListener("htmx:error", () => tell(true));
document.addEventListener("htmx:response:error", () => tell(true));
document.addEventListener("htmx:before:swap", () => tell(false));
document.addEventListener("htmx:after:request", (event) => {
  const status = event.detail?.ctx?.response?.status;
  if (status && status < 400) tell(false);
  const alarms = event.detail?.ctx?.response?.headers?.get("X-Alarms");
  if (alarms === null || alarms === undefined) return;
  for (const count of document.querySelectorAll("[data-alarms]")) {
    if (count.textContent !== alarms) count.textContent = alarms;
    count.hidden = alarms === "0";
  }
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.sure ?? event.target.dataset.sure;
  if (question && !confirm(question)) event.preventDefault();
});

// What takes a while says so, and is not asked for twice.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || !("going" in event.target.dataset)) return;
  event.target.querySelector(".going").hidden = false;
  event.target.querySelector("button").disabled = true;
});
// A page that the browser kept is as fresh as a new one.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-going]")) {
    form.querySelector(".going").hidden = true;
    form.querySelector("button").disabled = false;
  }
});

// What is to be copied is selected by one click, or by coming there with the keyboard.
document.addEventListener("focusin", (event) => { if ("select" in (event.target.dataset ?? {})) event.target.select(); });

// A local time becomes an instant with its zone in the hidden field that data-zoned names.
document.addEventListener("submit", (event) => {
  for (const input of event.target.querySelectorAll("[data-zoned]")) {
    event.target.elements[input.dataset.zoned].value = input.value ? new Date(input.value).toISOString() : "";
  }
});

// And what was chosen before is shown in that local time again.
for (const input of document.querySelectorAll("[data-zoned][data-at]")) {
  const at = new Date(input.dataset.at);
  if (isNaN(at)) continue;
  input.step = "any";
  input.value = new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, -1);
}

// A list that is followed keeps its newest entries only.
new MutationObserver(() => {
  for (const list of document.querySelectorAll("[data-most]")) {
    while (list.children.length > Number(list.dataset.most)) list.lastElementChild.remove();
  }
}).observe(document.body, {childList: true, subtree: true});

// A box with data-all ticks every box of its form with that name.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.all;
  if (!name) return;
  for (const box of event.target.form.elements) if (box.name === name) box.checked = event.target.checked;
});

for (const link of document.querySelectorAll("[data-back]")) {
  link.addEventListener("click", (event) => {
    if (history.length > 1) { event.preventDefault(); history.back(); }
  });
}
