"use strict";
// Draws each chart from the specification beside it. The arrow keys read its values one by one.
document.querySelectorAll(".chart").forEach(function (box) {
  var spec = JSON.parse(box.nextElementSibling.textContent);
  var reading = box.parentElement.querySelector(".reading");
  var at = -1;
  vegaEmbed(box, spec, { actions: false, ast: true, renderer: "svg" }).catch(console.error);
  function choose(step) {
    var marks = Array.from(box.querySelectorAll("svg [aria-roledescription][aria-label]:not(g)"));
    marks.forEach(function (mark) { mark.classList.remove("chosen"); });
    if (!step || !marks.length) { reading.textContent = ""; at = -1; return; }
    at = at < 0 ? 0 : (at + step + marks.length) % marks.length;
    marks[at].classList.add("chosen");
    reading.textContent = marks[at].getAttribute("aria-label");
  }
  box.addEventListener("keydown", function (event) {
    var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); choose(step); }
    if (event.key === "Escape") { choose(0); }
  });
  box.addEventListener("blur", function () { choose(0); });
});
