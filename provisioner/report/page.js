(function () {
  "use strict";
  var tip = document.getElementById("tip");
  var lit = null;

  function hide() {
    tip.style.visibility = "hidden";
    if (lit) { lit.classList.remove("on"); lit = null; }
  }

  function show(mark, text, x, y) {
    if (lit && lit !== mark) { lit.classList.remove("on"); }
    lit = mark;
    mark.classList.add("on");
    if (tip.textContent !== text) { tip.textContent = text; }
    var wide = tip.offsetWidth, high = tip.offsetHeight;
    var left = x + 14 + wide > window.innerWidth - 4 ? x - 14 - wide : x + 14;
    var top = y + 14 + high > window.innerHeight - 4 ? y - 14 - high : y + 14;
    tip.style.left = Math.max(4, Math.min(left, window.innerWidth - wide - 4)) + "px";
    tip.style.top = Math.max(4, top) + "px";
    tip.style.visibility = "visible";
  }

  document.querySelectorAll("figure[data-chart]").forEach(function (figure) {
    var texts = JSON.parse(figure.querySelector("script").textContent);

    figure.querySelectorAll("button[data-s]").forEach(function (button) {
      button.addEventListener("click", function () {
        var on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        figure.querySelectorAll('.series[data-s="' + button.dataset.s + '"]').forEach(function (series) {
          series.classList.toggle("off", !on);
        });
        hide();
      });
    });

    figure.querySelectorAll("svg.chart").forEach(function (svg) {
      var marks = Array.from(svg.querySelectorAll("[data-k]"));
      var byPlace = new Map(marks.map(function (mark) { return [mark.dataset.k, mark]; }));
      var turned = svg.dataset.turned === "1";
      var up = Number(svg.dataset.up);
      var at = null;

      function text(mark) {
        var place = mark.dataset.k.split(" ");
        return texts[place[0]][place[1]];
      }

      function seen(mark) { return mark && !mark.closest(".off"); }

      function nearest(x, y) {
        var best = null, least = 32 * 32;
        marks.forEach(function (mark) {
          if (!seen(mark)) { return; }
          var box = mark.getBoundingClientRect();
          var dx = x - (box.left + box.right) / 2, dy = y - (box.top + box.bottom) / 2;
          if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = mark; }
        });
        return best;
      }

      function point(event) {
        var mark = event.target.closest("[data-k]") || nearest(event.clientX, event.clientY);
        if (seen(mark)) { at = mark; show(mark, text(mark), event.clientX, event.clientY); } else { hide(); }
      }

      function focus(mark) {
        at = mark;
        var box = mark.getBoundingClientRect();
        show(mark, text(mark), (box.left + box.right) / 2, (box.top + box.bottom) / 2);
      }

      function next(dr, dc) {
        var place = at.dataset.k.split(" ").map(Number);
        var rows = texts.length, columns = Math.max.apply(null, texts.map(function (row) { return row.length; }));
        for (var k = 1; k <= Math.max(rows, columns); k += 1) {
          var mark = byPlace.get((place[0] + k * dr) + " " + (place[1] + k * dc));
          if (seen(mark)) { return mark; }
        }
        return null;
      }

      svg.addEventListener("pointermove", point);
      svg.addEventListener("pointerdown", point);
      svg.addEventListener("pointerleave", hide);
      svg.addEventListener("blur", hide);
      svg.addEventListener("keydown", function (event) {
        var moves = turned
          ? { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
          : { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [up, 0], ArrowDown: [-up, 0] };
        if (event.key === "Escape") { hide(); return; }
        var move = moves[event.key];
        if (!move) { return; }
        event.preventDefault();
        var mark = seen(at) ? next(move[0], move[1]) : marks.find(seen);
        if (mark) { focus(mark); }
      });
    });
  });
  window.addEventListener("scroll", hide, { passive: true });
}());
