'use strict';
// The two kinds of charts, drawn by uPlot. charts_svg.js has the same interface without a library.
const charts = (() => {
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const font = '12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif';
  const height = (width, spec) => Math.round(Math.max(240, Math.min(spec.height || 320, width * 0.66)));

  // No value is above `most`, if that is given: little room there.
  const padded = (low, high, most = Infinity) => {
    const room = high > low ? (high - low) * 0.08 : Math.abs(high) * 0.1 || 1;
    return [low - room, Math.min(high + room, Math.max(high, most) + 0.3 * room)];
  };

  // Digits behind the point that tell neighbouring ticks apart.
  const digits = ticks => {
    const step = Math.abs(ticks[1] - ticks[0]) || 1;
    let n = 0;
    while (n < 6 && Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) > 1e-6 * 10 ** n) ++n;
    return n;
  };

  function axes(spec) {
    const axis = (label, format, size, space) => ({
      label, labelFont: font, labelSize: 20, font, size, space, stroke: () => css('--muted'),
      grid: { stroke: () => css('--line'), width: 1 }, ticks: { show: false }, values: (u, ticks) => ticks.map(v => format(v, digits(ticks))),
    });
    return [axis(spec.xLabel, spec.formatX, 34, 64), axis(spec.yLabel, spec.formatY, 58, 36)];
  }

  function place(tip, u, text, left, top) {
    tip.hidden = text === null;
    if (text === null) return;
    tip.textContent = text;
    const wide = u.over.clientWidth, flip = left > wide - tip.offsetWidth - 14;
    const x = u.over.offsetLeft + (flip ? left - tip.offsetWidth - 12 : left + 12);
    tip.style.left = Math.max(0, Math.min(x, u.root.clientWidth - tip.offsetWidth)) + 'px';
    tip.style.top = Math.max(0, u.over.offsetTop + top - tip.offsetHeight - 10) + 'px';
  }

  // Builds the chart with `options` in `host` and keeps it as wide as its place.
  function mount(host, spec, options, data, hover) {
    const plot = document.createElement('div'), tip = document.createElement('div');
    plot.className = 'plot';
    tip.className = 'tip';
    tip.hidden = true;
    host.replaceChildren(plot, tip);
    plot.setAttribute('role', 'img');
    plot.setAttribute('aria-label', spec.label);
    const size = () => ({ width: host.clientWidth, height: height(host.clientWidth, spec) });
    const u = new uPlot({
      ...size(), axes: axes(spec), legend: { show: false }, ...options,
      hooks: { ...options.hooks, setCursor: [c => hover(c, (text, x, y) => place(tip, c, text, x, y))] },
    }, data, plot);
    u.over.addEventListener('mouseleave', () => { tip.hidden = true; });
    new ResizeObserver(() => { if (host.clientWidth !== u.width) u.setSize(size()); }).observe(host);
    return u;
  }

  function lines(host, spec) {
    const range = (u, low, high) => padded(low, high, spec.mostY);
    const u = mount(host, spec, {
      scales: { x: { time: false, range: (c, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) }, y: { range } },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      series: [{}, ...spec.series.map(s => ({
        label: s.label, stroke: () => css(s.color), width: s.dashed ? 1.5 : 2, dash: s.dashed ? [6, 5] : undefined,
        points: { show: !s.dashed && spec.x.length < 40, size: 6, fill: () => css(s.color) },
      }))],
    }, [spec.x, ...spec.series.map(s => s.values)], (c, show) => {
      const i = c.cursor.idx;
      if (i == null || c.cursor.left < 0) return show(null);
      show(spec.describe(i), c.valToPos(spec.x[i], 'x'), c.cursor.top);
    });
    return { redraw: () => u.redraw(false, true) };
  }

  function scatter(host, spec) {
    const order = spec.points.map((p, i) => i).sort((a, b) => spec.points[a].x - spec.points[b].x);
    let selected = spec.selected;
    host.classList.add('clickable');
    const position = (c, i) => [c.valToPos(spec.points[i].x, 'x'), c.valToPos(spec.points[i].y, 'y')];
    const nearest = c => {
      let best = null, least = 28;
      for (const i of order) {
        const [x, y] = position(c, i), distance = Math.hypot(x - c.cursor.left, y - c.cursor.top);
        if (distance < least) [best, least] = [i, distance];
      }
      return best;
    };
    const draw = c => {
      const context = c.ctx, ratio = devicePixelRatio;
      const at = i => [c.valToPos(spec.points[i].x, 'x', true), c.valToPos(spec.points[i].y, 'y', true)];
      context.save();
      context.strokeStyle = css('--weights');
      context.globalAlpha = 0.4;
      context.lineWidth = 1.5 * ratio;
      context.beginPath();
      let last = null;
      for (const i of order.filter(k => spec.points[k].front)) {
        const [x, y] = at(i);
        if (last !== null) context.lineTo(x, last);
        context[last === null ? 'moveTo' : 'lineTo'](x, y);
        last = y;
      }
      context.stroke();
      for (const i of order) {
        const p = spec.points[i], [x, y] = at(i);
        context.globalAlpha = p.front || p.chosen ? 1 : 0.35;
        context.fillStyle = css(p.chosen ? '--activations' : '--weights');
        context.beginPath();
        context.arc(x, y, (p.chosen ? 6.5 : 5) * ratio, 0, 2 * Math.PI);
        context.fill();
        if (p.name) {
          const left = x > context.canvas.width / 2;
          context.globalAlpha = 1;
          context.font = font.replace('12px', `${12 * ratio}px`);
          context.fillStyle = css('--ink');
          context.textAlign = left ? 'right' : 'left';
          context.textBaseline = 'middle';
          context.fillText(p.name, x + (left ? -12 : 12) * ratio, y);
        }
        if (i !== selected) continue;
        context.globalAlpha = 1;
        context.strokeStyle = css('--ink');
        context.lineWidth = 2 * ratio;
        context.beginPath();
        context.arc(x, y, 10 * ratio, 0, 2 * Math.PI);
        context.stroke();
      }
      context.restore();
    };
    const xs = order.map(i => spec.points[i].x), ys = order.map(i => spec.points[i].y);
    const u = mount(host, spec, {
      scales: {
        x: { time: false, range: () => padded(Math.min(...xs), Math.max(...xs)) },
        y: { range: () => padded(Math.min(...ys), Math.max(...ys), spec.mostY) },
      },
      cursor: { x: false, y: false, drag: { x: false, y: false }, points: { show: false } },
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { draw: [draw] },
    }, [xs, ys], (c, show) => {
      const i = c.cursor.left < 0 ? null : nearest(c);
      if (i === null) return show(null);
      show(spec.describe(i), ...position(c, i));
    });
    u.over.addEventListener('click', () => {
      const i = nearest(u);
      if (i !== null) spec.onSelect(i);
    });
    return {
      redraw: () => u.redraw(false, true),
      select: i => { selected = i; u.redraw(false, false); },
      position: i => {
        const box = u.over.getBoundingClientRect(), [x, y] = position(u, i);
        return [box.left + x, box.top + y];
      },
    };
  }

  return { lines, scatter };
})();
