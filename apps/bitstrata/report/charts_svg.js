'use strict';
// The two kinds of charts as inline SVG, for builds without the chart library. Same interface as charts_uplot.js.
const charts = (() => {
  const W = 640, H = 380, LEFT = 64, RIGHT = 16, TOP = 14, BOTTOM = 48;

  function node(tag, attributes, ...children) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  // No value is above `most`, if that is given: little room there.
  function scale(values, from, to, room, most = Infinity) {
    const least = Math.min(...values), greatest = Math.max(...values);
    const pad = greatest > least ? (greatest - least) * room : Math.abs(greatest) * 0.1 || 1;
    const low = least - pad, high = Math.min(greatest + pad, Math.max(greatest, most) + 0.3 * pad);
    const place = v => from + (v - low) / (high - low) * (to - from);
    // Digits behind the point that tell neighbouring ticks apart.
    const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10((high - low) / 5))));
    return { place, digits, ticks: [0, 1, 2, 3, 4].map(k => low + (high - low) * (k + 0.5) / 5) };
  }

  function frame(spec, x, y) {
    const svg = node('svg', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': spec.label });
    for (const v of y.ticks) {
      svg.append(node('line', { x1: LEFT, x2: W - RIGHT, y1: y.place(v), y2: y.place(v), stroke: 'var(--line)' }),
        node('text', { x: LEFT - 8, y: y.place(v) + 4, 'text-anchor': 'end' }, spec.formatY(v, y.digits)));
    }
    for (const v of x.ticks) svg.append(node('text', { x: x.place(v), y: H - BOTTOM + 18, 'text-anchor': 'middle' }, spec.formatX(v)));
    svg.append(node('text', { x: (LEFT + W) / 2, y: H - 8, 'text-anchor': 'middle' }, spec.xLabel),
      node('text', { transform: `translate(14 ${H / 2}) rotate(-90)`, 'text-anchor': 'middle' }, spec.yLabel));
    return svg;
  }

  function lines(host, spec) {
    const whole = spec.x.length > 1 && spec.x.length <= 10;
    const x = scale(spec.x, LEFT, W - RIGHT, 0.02), y = scale(spec.series.flatMap(s => s.values), H - BOTTOM, TOP, 0.08, spec.mostY);
    if (whole || spec.x.length === 1) x.ticks = spec.x;
    else x.ticks = x.ticks.map(Math.round);
    const svg = frame(spec, x, y);
    for (const s of spec.series) {
      const path = s.values.map((v, i) => `${i ? 'L' : 'M'}${x.place(spec.x[i])} ${y.place(v)}`).join('');
      svg.append(node('path', { d: path, fill: 'none', stroke: `var(${s.color})`, 'stroke-width': 2, 'stroke-dasharray': s.dashed ? '6 5' : 'none' }));
      if (s.dashed) continue;
      s.values.forEach((v, i) => svg.append(node('circle', { cx: x.place(spec.x[i]), cy: y.place(v), r: 3.5, fill: `var(${s.color})` },
        node('title', {}, spec.describe(i)))));
    }
    host.replaceChildren(svg);
    return { redraw() {} };
  }

  function scatter(host, spec) {
    host.classList.add('clickable');
    const x = scale(spec.points.map(p => p.x), LEFT, W - RIGHT, 0.08), y = scale(spec.points.map(p => p.y), H - BOTTOM, TOP, 0.08, spec.mostY);
    const svg = frame(spec, x, y);
    const circles = spec.points.map((p, i) => {
      const circle = node('circle', {
        cx: x.place(p.x), cy: y.place(p.y), r: p.chosen ? 7.5 : 6, 'stroke-width': 3,
        fill: `var(${p.chosen ? '--activations' : '--weights'})`, opacity: p.front || p.chosen ? 1 : 0.4,
      }, node('title', {}, spec.describe(i)));
      circle.addEventListener('click', () => spec.onSelect(i));
      svg.append(circle);
      const left = x.place(p.x) > W / 2;
      if (p.name) svg.append(node('text', { x: x.place(p.x) + (left ? -12 : 12), y: y.place(p.y) + 4, 'text-anchor': left ? 'end' : 'start' }, p.name));
      return circle;
    });
    const select = chosen => circles.forEach((circle, i) => circle.setAttribute('stroke', i === chosen ? 'var(--ink)' : 'none'));
    select(spec.selected);
    host.replaceChildren(svg);
    return {
      redraw() {},
      select,
      position: i => {
        const box = circles[i].getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
      },
    };
  }

  return { lines, scatter };
})();
