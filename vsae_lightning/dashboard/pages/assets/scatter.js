/* A map of points to look around in: drag and wheel, fingers, or keys; what lies under the pointer is told. */
"use strict";

(function () {
  const STEP = 1.4; // of a button or key that zooms
  const CLOSEST = 400;
  const NEAR = 9; // pixels between the pointer and a point that it means
  const [HIDDEN, DIM, PLAIN, MARKED] = [0, 1, 2, 3];
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  /** The ranks of a point: not there, in the background, as it is, or larger and on top of the others. */
  report.ranks = { HIDDEN, DIM, PLAIN, MARKED };

  /** What there is to see, in a square around its middle. */
  function extent(x, y) {
    const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const [[left, right], [low, high]] = [range(x), range(y)];
    return { x: (left + right) / 2, y: (low + high) / 2, span: Math.max(right - left, high - low, 1e-9) * 1.06 };
  }

  /** A map in `holder`.
   *  describe(i): what is told of point i, as an element, whose links may be followed where it is held.
   *  open(i, aside): a click on point i, aside: in a window of its own; returns false where telling is all there is.
   *  partner(i): a point to be shown with it, or null. moved(): another view. */
  report.scatter = function (holder, { describe, open, partner = () => null, moved = () => {} }) {
    const canvas = report.element("canvas", { tabindex: 0, role: "img" });
    const tip = report.element("div", { class: "tip", hidden: true });
    const button = (label, sign, click) => report.element("button", { type: "button", "aria-label": label, title: label, click }, sign);
    const buttons = report.element("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
      button("Zoom in", "+", () => zoom(STEP)), button("Zoom out", "−", () => zoom(1 / STEP)),
      button("Show the whole map", "⤢", () => look({ ...WHOLE })));
    holder.classList.add("scatter");
    holder.replaceChildren(canvas, buttons, tip);

    const WHOLE = { x: 0, y: 0, zoom: 1 }; // shifts in shares of the extent
    let points = { x: [], y: [], shade: [], rank: [], palette: [] };
    let whole = extent([0], [0]);
    let view = { ...WHOLE };
    let hovered = null;
    let held = false; // the tip stays, and its links can be followed
    let isAsked = false;

    /* Places. */

    const scale = () => (Math.min(canvas.clientWidth, canvas.clientHeight) / whole.span) * view.zoom;
    const centre = () => [whole.x + view.x * whole.span, whole.y + view.y * whole.span];

    function places() {
      const [size, [x, y], half, middle] = [scale(), centre(), canvas.clientWidth / 2, canvas.clientHeight / 2];
      return { left: (i) => half + (points.x[i] - x) * size, top: (i) => middle - (points.y[i] - y) * size };
    }

    function radius() {
      const whole = Math.min(4.5, Math.max(1.5, 1 + 80 / Math.sqrt(points.x.length || 1)));
      return Math.min(7, whole * view.zoom ** 0.3);
    }

    function nearest(x, y, reach) {
      const { left, top } = places();
      let [found, least] = [null, Math.max(reach, radius()) ** 2];
      for (let i = 0; i < points.x.length; i += 1) {
        if (points.rank[i] <= DIM) continue;
        const distance = (left(i) - x) ** 2 + (top(i) - y) ** 2;
        if (distance <= least) [found, least] = [i, distance];
      }
      return found;
    }

    /* Drawing. */

    function draw() {
      isAsked = false;
      const ratio = window.devicePixelRatio || 1;
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
      const ground = report.rgb(report.colour("raised"));
      const raster = report.raster(canvas, ground);
      const { left, top } = places();
      const at = { count: points.x.length, shade: points.shade, left: (i) => left(i) * ratio, top: (i) => top(i) * ratio };
      const layer = (rank, size, palette) =>
        raster.discs({ ...at, chosen: (i) => points.rank[i] === rank, palette, radius: size * ratio });
      layer(DIM, radius() * 0.8, points.palette.map((colour) => report.between(ground, colour, 0.2)));
      layer(PLAIN, radius(), points.palette);
      layer(MARKED, radius() + 2.2, points.palette.map(() => report.rgb(report.colour("ink"))));
      layer(MARKED, radius() + 1.2, points.palette);
      raster.show();
      if (hovered !== null) ring(ratio, left, top);
    }

    function ring(ratio, left, top) {
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      context.strokeStyle = report.colour("ink");
      context.lineWidth = 1.5;
      const both = [hovered, partner(hovered)].filter((i) => i !== null);
      context.beginPath();
      both.forEach((i, order) => (order ? context.lineTo(left(i), top(i)) : context.moveTo(left(i), top(i))));
      context.stroke();
      for (const i of both) {
        context.beginPath();
        context.arc(left(i), top(i), radius() + 3, 0, 2 * Math.PI);
        context.stroke();
      }
    }

    function ask() {
      if (!isAsked) window.requestAnimationFrame(draw);
      isAsked = true;
    }

    /* The tip. */

    function tell(index, hold) {
      if (index === hovered && hold === held) return;
      [hovered, held] = [index, hold && index !== null];
      canvas.style.cursor = index === null ? "" : "pointer";
      tip.hidden = index === null;
      tip.classList.toggle("held", held);
      if (index !== null) {
        tip.replaceChildren(describe(index));
        place(index);
      }
      ask();
    }

    /** Beside the point, on the side where there is room. */
    function place(index) {
      const { left, top } = places();
      const [x, y] = [left(index), top(index)];
      const beside = x + 14 + tip.offsetWidth <= canvas.clientWidth ? x + 14 : x - 14 - tip.offsetWidth;
      const above = y - 14 - tip.offsetHeight;
      tip.style.left = `${Math.max(4, Math.min(beside, canvas.clientWidth - tip.offsetWidth - 4))}px`;
      tip.style.top = `${Math.max(4, above >= 0 ? above : Math.min(y + 14, canvas.clientHeight - tip.offsetHeight - 4))}px`;
    }

    /* Moving about. */

    function look(next) {
      const clip = (share) => Math.min(0.6, Math.max(-0.6, share));
      view = { x: clip(next.x), y: clip(next.y), zoom: Math.min(CLOSEST, Math.max(0.5, next.zoom)) };
      tell(null, false);
      ask();
      moved();
    }

    /** Keep in place what lies at (x, y), as a rule the middle. */
    function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
      const next = Math.min(CLOSEST, Math.max(0.5, view.zoom * factor));
      const gain = (1 / scale() - 1 / (scale() * (next / view.zoom))) / whole.span;
      look({ x: view.x + (x - canvas.clientWidth / 2) * gain, y: view.y - (y - canvas.clientHeight / 2) * gain, zoom: next });
    }

    function pan(dx, dy) {
      const share = 1 / (scale() * whole.span);
      look({ ...view, x: view.x - dx * share, y: view.y + dy * share });
    }

    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    }, { passive: false });

    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (KEYS[event.key]) pan(...KEYS[event.key].map((way) => -60 * way));
      else if (event.key === "+" || event.key === "=") zoom(STEP);
      else if (event.key === "-") zoom(1 / STEP);
      else if (event.key === "0") look({ ...WHOLE });
      else if (event.key === "Escape") tell(null, false);
      else return;
      event.preventDefault();
    });

    /* Pointers: one drags, two pinch. */

    const fingers = new Map();
    let isDragged = false;

    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY, startX: event.offsetX, startY: event.offsetY });
      isDragged = fingers.size > 1;
    });

    canvas.addEventListener("pointermove", (event) => {
      const finger = fingers.get(event.pointerId);
      if (!finger) {
        if (!held) tell(nearest(event.offsetX, event.offsetY, NEAR), false);
        return;
      }
      const [x, y] = [event.offsetX, event.offsetY];
      isDragged = isDragged || Math.hypot(x - finger.startX, y - finger.startY) > 4;
      if (fingers.size === 1 && isDragged) pan(x - finger.x, y - finger.y);
      if (fingers.size === 2) pinch(finger, x, y);
      Object.assign(finger, { x, y });
    });

    function pinch(finger, x, y) {
      const rest = [...fingers.values()].find((one) => one !== finger);
      const before = Math.hypot(finger.x - rest.x, finger.y - rest.y);
      zoom(Math.hypot(x - rest.x, y - rest.y) / Math.max(1, before), (x + rest.x) / 2, (y + rest.y) / 2);
      pan((x - finger.x) / 2, (y - finger.y) / 2);
    }

    canvas.addEventListener("pointerup", (event) => {
      if (fingers.delete(event.pointerId) && !isDragged) click(event);
    });
    canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => held || tell(null, false));

    /** A finger cannot hover: its first touch tells, and the link in what is told opens. */
    function click(event) {
      const isTouch = event.pointerType === "touch";
      const index = nearest(event.offsetX, event.offsetY, isTouch ? 2 * NEAR : NEAR);
      if (index === null || isTouch || !open(index, event.ctrlKey || event.metaKey)) tell(index, true);
    }

    new ResizeObserver(ask).observe(canvas);
    document.addEventListener("themechange", ask);

    return {
      /** Other points: {x, y, shade: index in palette, palette: [[r, g, b]...], rank}, one entry per point. */
      show(next) {
        const isOther = next.x !== points.x;
        points = next;
        if (isOther) whole = extent(points.x, points.y);
        tell(null, false);
        ask();
      },
      label: (text) => canvas.setAttribute("aria-label", text),
      view: () => ({ ...view }),
      look: (next) => look({ ...WHOLE, ...next }),
      /** Whether a point is inside the frame. */
      inside() {
        const { left, top } = places();
        return (i) => left(i) >= 0 && left(i) <= canvas.clientWidth && top(i) >= 0 && top(i) <= canvas.clientHeight;
      },
      /** Where on the page a point is, in pixels from the map's corner. */
      place: (i) => ({ left: places().left(i), top: places().top(i) }),
    };
  };
})();
