// A large file takes a while: show how far it is. Without this script the form sends itself, only silently.
"use strict";

for (const form of document.querySelectorAll("form[data-upload]")) {
  const file = form.elements.file, wrong = form.querySelector("#wrong-file"), going = form.querySelector(".going");
  const bar = going.querySelector("progress"), button = form.querySelector("button");

  const tell = (text) => {
    wrong.textContent = text;
    wrong.hidden = !text;
    going.hidden = true;
    button.disabled = false;
  };

  file.addEventListener("change", () => {
    const large = file.files[0] && file.files[0].size > Number(form.dataset.upload) * 1024 * 1024;
    tell(large ? wrong.dataset.large : "");
    button.disabled = Boolean(large);
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const sending = new XMLHttpRequest();
    sending.open("POST", `/api${new URL(form.action).pathname}`);
    sending.setRequestHeader("X-CSRF-Token", form.elements.csrf.value);
    sending.responseType = "json";
    sending.upload.addEventListener("progress", (now) => {
      if (now.lengthComputable) bar.value = 100 * now.loaded / now.total;
    });
    sending.addEventListener("load", () => {
      if (sending.status === 202) location.reload();
      else tell(sending.response?.error?.message ?? sending.statusText);
    });
    sending.addEventListener("error", () => tell(wrong.dataset.lost));
    bar.value = 0;
    going.hidden = false;
    button.disabled = true;
    const body = new FormData(form);
    body.delete("csrf");
    sending.send(body);
  });
}
