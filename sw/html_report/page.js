"use strict";
(() => {
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const tip = document.getElementById("tip");
  const hide = () => { tip.style.opacity = 0; };
  document.addEventListener("pointermove", (event) => {
    const from = event.target.closest("[data-tip]");
    if (!from) return hide();
    tip.textContent = from.dataset.tip;
    tip.style.opacity = 1;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const y = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : below;
    tip.style.transform = `translate(${Math.max(4, x)}px, ${y}px)`;
  });
  document.addEventListener("scroll", hide, { passive: true });

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const section = button.closest("section");
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const other of section.querySelectorAll(".legend button")) {
        other.setAttribute("aria-pressed", String(on && other === button));
      }
      for (const part of section.querySelectorAll("[data-cause]")) {
        part.classList.toggle("lit", on && part.dataset.cause === button.dataset.cause);
      }
      if (on) section.dataset.only = ""; else delete section.dataset.only;
    });
  }

  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.addEventListener("click", () => {
      const on = document.getElementById(button.dataset.for).classList.toggle(button.dataset.toggle);
      button.setAttribute("aria-pressed", String(on));
    });
  }

  const copy = document.getElementById("copy");
  if (copy && navigator.clipboard) {
    copy.addEventListener("click", () => navigator.clipboard
      .writeText(document.getElementById("command").textContent.trim())
      .then(() => { copy.textContent = "copied"; }));
  } else if (copy) {
    copy.hidden = true;
  }
})();
