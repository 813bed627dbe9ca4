'use strict';
// Draws the report from the JSON in #data. Names in it come from users' files: they become text nodes, never markup.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const drawn = [];  // charts, to be drawn again in another theme

  function h(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
      else if (key === 'style') for (const [name, v] of Object.entries(value)) element.style.setProperty(name, v);
      else element.setAttribute(key, value === true ? '' : value);
    }
    element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
    return element;
  }

  const fixed = (v, digits) => v.toFixed(digits);
  const has = value => value !== null && value !== undefined;
  const percent = (v, digits = 2) => `${(100 * v).toFixed(digits)} %`;
  const short = v => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2));
  const scaled = (v, units, base = 1000) => {
    let i = 0;
    while (Math.abs(v) >= base && i < units.length - 1) { v /= base; ++i; }
    return `${i === 0 && Number.isInteger(v) ? v : short(v)}${units[i] ? ` ${units[i]}` : ''}`;
  };
  const bytes = v => scaled(v, ['B', 'KB', 'MB', 'GB']);
  const count = v => scaled(v, ['', 'k', 'M', 'G', 'T']);
  const bitops = v => scaled(v, ['BitOPs', 'kBitOPs', 'MBitOPs', 'GBitOPs', 'TBitOPs']);
  const ms = v => (v >= 0.1 ? `${short(v)} ms` : `${(1000 * v).toFixed(1)} µs`);
  const duration = s => (s < 60 ? `${s.toFixed(1)} s` : s < 3600 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${(s / 3600).toFixed(1)} h`);
  // A long name may break behind its separators.
  const breakable = name => name.split(/(?<=[/._])/).flatMap((part, i) => (i ? [h('wbr'), part] : [part]));
  const signed = v => `${v > 0 ? '+' : v < 0 ? '−' : '±'}${Math.abs(v).toFixed(2)}`;

  function section(title, id, aside, ...children) {
    return h('section', { id, 'aria-labelledby': `${id}-title` },
      h('div', { class: 'head' }, h('h2', { id: `${id}-title` }, title), aside), ...children);
  }

  // columns: {title, cell(row), number, name, wide}
  function table(columns, rows, rowClass) {
    return h('table', { class: 'cards' },
      h('thead', {}, h('tr', {}, columns.map(c => h('th', { scope: 'col', class: c.number ? 'number' : null }, c.title)))),
      h('tbody', {}, rows.map((row, i) => h('tr', { class: rowClass ? rowClass(row, i) : null }, columns.map(c => h('td', {
        'data-label': c.title, class: [c.number && 'number', c.name && 'name', c.wide && 'wide'].filter(Boolean).join(' ') || null,
      }, c.cell(row, i)))))));
  }

  // ---- theme -------------------------------------------------------------------------------------------------------------------------------
  const root = document.documentElement, prefersDark = matchMedia('(prefers-color-scheme: dark)');
  const systemTheme = () => (prefersDark.matches ? 'dark' : 'light');
  const toggle = h('button', { class: 'theme', type: 'button', onclick: () => setTheme(root.dataset.theme === 'dark' ? 'light' : 'dark', true) });
  let asked = null;
  try { asked = localStorage.getItem('bitstrata-theme'); } catch { /* files may have no storage */ }

  function setTheme(theme, keep) {
    root.dataset.theme = theme;
    const other = theme === 'dark' ? 'light' : 'dark';
    toggle.textContent = theme === 'dark' ? 'Light' : 'Dark';
    toggle.setAttribute('aria-label', `Switch to ${other} colours`);
    drawn.forEach(chart => chart.redraw());
    if (!keep) return;
    // Back at the system's own theme, the page follows the system again.
    asked = theme === systemTheme() ? null : theme;
    try {
      if (asked) localStorage.setItem('bitstrata-theme', asked);
      else localStorage.removeItem('bitstrata-theme');
    } catch { /* as above */ }
  }
  prefersDark.addEventListener('change', () => { if (!asked) setTheme(systemTheme(), false); });

  // ---- what was asked and reached -------------------------------------------------------------------------------------------------------
  function tile(title, value, unit, ...notes) {
    return h('div', { class: 'tile' }, h('h3', {}, title), h('div', { class: 'value' }, value, unit && h('small', {}, ` ${unit}`)), ...notes);
  }

  function summary() {
    const run = data.run, sum = run || data.figures;
    if (!sum) return null;
    const tiles = [];
    if (run) {
      const change = 100 * (run.accuracy - run.float_accuracy);
      tiles.push(tile('Test accuracy, packed', (100 * run.accuracy).toFixed(2), '%',
        h('p', {}, `float ${percent(run.float_accuracy)}, ${signed(change)} points`),
        h('div', { class: 'meter' }, h('b', { style: { width: `${100 * run.accuracy}%` } }))));
    }
    const whole = run ? run.float_weight_bytes : 4 * sum.weights;
    tiles.push(tile('Weights', ...bytes(sum.weight_bytes).split(' '),
      h('p', {}, `${short(sum.compression)}× smaller than ${bytes(whole)}`),
      h('div', { class: 'meter' }, h('b', { style: { width: `${100 * sum.weight_bytes / whole}%` } }))));
    tiles.push(tile('Average bits', `${sum.avg_weight_bits.toFixed(2)} / ${sum.avg_activation_bits.toFixed(2)}`, '',
      h('p', {}, h('span', { class: 'w' }, 'weights'), ' / ', h('span', { class: 'a' }, 'activations'), ', float has 32')));
    const [work, unit] = bitops(sum.bitops).split(' ');
    tiles.push(tile('Work per image', work, unit, h('p', {}, 'MACs × weight bits × activation bits'),
      has(data.latency_ms) && h('p', {}, `${ms(data.latency_ms)} predicted`)));
    return h('section', { class: 'tiles', 'aria-label': 'What was reached' }, tiles);
  }

  function targets() {
    const list = data.targets || [];
    if (!list.length) return null;
    const badge = met => (met === null ? h('span', { class: 'badge' }, 'not known') : met ? h('span', { class: 'badge met' }, '✓ met') : h('span', { class: 'badge unmet' }, '✗ not met'));
    return section('Targets', 'targets', null, h('ul', { class: 'targets' }, list.map(t => h('li', {},
      h('code', {}, t.text), badge(t.met), t.reached && h('span', { class: 'muted number' }, `reached ${t.reached}`)))));
  }

  // ---- bits of layers -----------------------------------------------------------------------------------------------------------------------
  const width = bits => `${Math.min(bits, 8) * 12.5}%`;
  const bitsText = bits => (bits > 8 ? 'float' : String(bits));

  function strip(layers, large) {
    const bar = bits => h('span', { class: bits > 8 ? 'float' : null }, h('b', { style: { height: width(bits) } }));
    const label = `Bits of ${layers.length} layers in order: ${layers.map(l => `${l.name} ${bitsText(l.weight_bits)}/${bitsText(l.activation_bits)}`).join(', ')}`;
    return h('div', { class: large ? 'strip large' : 'strip', role: 'img', 'aria-label': label }, layers.map(l => h('div', {
      title: `${l.name}: weights ${bitsText(l.weight_bits)}, activations ${bitsText(l.activation_bits)} bits` }, bar(l.weight_bits), bar(l.activation_bits))));
  }

  const stripLegend = () => h('div', { class: 'legend' },
    h('span', {}, h('i', {}), 'weight bits (upwards)'), h('span', {}, h('i', { class: 'activations' }), 'activation bits (downwards)'));

  function bitsBar(bits, kind) {
    return h('div', { class: `bits ${kind}${bits > 8 ? ' float' : ''}` }, h('i', {}, h('b', { style: { width: width(bits) } })), h('span', {}, bitsText(bits)));
  }

  function layers() {
    const rows = data.layers;
    if (!rows.length) return null;
    const amount = (key, format) => {
      const most = Math.max(...rows.map(r => r[key] || 0));
      return row => (has(row[key]) ? h('div', { class: 'amount' },
        h('i', {}, h('b', { style: { width: `${most > 0 ? 100 * Math.max(0, row[key]) / most : 0}%` } })), h('span', {}, format(row[key]))) : '–');
    };
    const columns = [
      { title: 'Layer', name: true, cell: r => h('span', {}, breakable(r.name)) },
      { title: 'Weight bits', cell: r => bitsBar(r.weight_bits, 'weights') },
      { title: 'Activation bits', cell: r => bitsBar(r.activation_bits, 'activations') },
    ];
    const any = key => rows.some(r => r[key]);
    if (any('sensitivity')) columns.push({ title: 'Sensitivity', number: true, cell: amount('sensitivity', v => Number(v).toPrecision(3)) });
    if (any('macs')) columns.push({ title: 'MACs', number: true, cell: amount('macs', count) });
    if (any('weight_bytes')) columns.push({ title: 'Weights', number: true, cell: amount('weight_bytes', bytes) });
    if (any('ms')) columns.push({ title: 'Predicted', number: true, cell: amount('ms', ms) });
    if (any('kernel')) columns.push({ title: 'Kernel', wide: true, cell: r => (r.kernel ? h('code', {}, breakable(r.kernel)) : '–') });
    const note = [];
    if (any('sensitivity')) note.push(data.method === 'pdq' ? 'Sensitivity: dual variable of the layer\'s constraint.' : `Sensitivity: as ${data.method || 'the method'} has measured it.`);
    if (any('kernel')) note.push(`Kernels: the runtime's choice on this machine (${data.isa}).`);
    return section('Layers', 'layers', null, h('p', { class: 'note' }, note.join(' ')), strip(rows, true), stripLegend(), h('div', { class: 'scroll' }, table(columns, rows)));
  }

  // ---- the plan beside plain widths -----------------------------------------------------------------------------------------------------
  function widths() {
    const rows = data.widths || [];
    if (!rows.length) return null;
    const most = Math.max(...rows.map(r => r.weight_bytes));
    const columns = [
      { title: 'Bits', name: true, cell: r => r.name },
      { title: 'Test accuracy', number: true, cell: r => (has(r.accuracy) ? percent(r.accuracy) : '–') },
      { title: 'Weights', number: true, cell: r => h('div', { class: 'amount' }, h('i', {}, h('b', { style: { width: `${100 * r.weight_bytes / most}%` } })), h('span', {}, bytes(r.weight_bytes))) },
      { title: 'Smaller', number: true, cell: r => `${short(r.compression)}×` },
      { title: 'W / A bits', number: true, cell: r => [r.avg_weight_bits, r.avg_activation_bits].map(v => (Number.isInteger(v) ? String(v) : v.toFixed(2))).join(' / ') },
      { title: 'Work', number: true, cell: r => bitops(r.bitops) },
    ];
    if (rows.some(r => has(r.latency_ms))) columns.push({ title: 'Predicted', number: true, cell: r => (has(r.latency_ms) ? ms(r.latency_ms) : '–') });
    return section('Side by side', 'widths', null,
      h('p', { class: 'note' }, 'Sizes, work and predicted times follow from the bits. Accuracy is given of what was measured; ', h('code', {}, 'bitstrata compare'), ' trains several choices of bits in one go.'),
      h('div', { class: 'scroll' }, table(columns, rows, (r, i) => (i === rows.length - 1 ? 'this' : null))));
  }

  // ---- Pareto front ---------------------------------------------------------------------------------------------------------------------------
  const costs = [
    { key: 'weight_bytes', title: 'Size', label: 'packed weights', format: bytes },
    { key: 'bitops', title: 'BitOPs', label: 'bit operations per image', format: bitops },
    { key: 'latency_ms', title: 'Time', label: 'predicted time per image', format: ms },
  ];

  function planPanel(point) {
    const figure = (title, value) => [h('dt', {}, title), h('dd', {}, value)];
    return [
      h('h3', {}, point.chosen ? 'The packed plan' : 'Selected plan'),
      h('dl', {}, figure('held-out accuracy', percent(point.accuracy)), figure('packed weights', `${bytes(point.weight_bytes)} (${short(point.compression)}×)`),
        figure('average weight bits', point.avg_weight_bits.toFixed(2)), figure('work', bitops(point.bitops)),
        has(point.latency_ms) && figure('predicted', ms(point.latency_ms)), figure('found', point.how)),
      strip(point.layers, false),
      h('div', { class: 'layers', tabindex: '0', role: 'group', 'aria-label': 'Bits of every layer' }, point.layers.map(l => h('div', { title: l.name }, h('span', {}, l.name), h('span', { class: 'number' },
        h('span', { class: 'w' }, `W${bitsText(l.weight_bits || 32)}`), ' ', h('span', { class: 'a' }, `A${bitsText(l.activation_bits || 32)}`))))),
    ];
  }

  function pareto() {
    const points = data.points;
    if (!points.length) return null;
    const known = costs.filter(cost => points.every(p => has(p[cost.key])));
    let cost = known[0], selected = Math.max(0, points.findIndex(p => p.chosen)), chart = null;
    const host = h('div', { class: 'chart' }), panel = h('div', { class: 'plan', 'aria-live': 'polite' }), list = h('div', { class: 'scroll' });
    const buttons = known.map(c => h('button', { type: 'button', onclick: () => draw(c) }, c.title));

    const isFront = (p, key) => !points.some(q => q !== p && q[key] <= p[key] && q.accuracy >= p.accuracy && (q[key] < p[key] || q.accuracy > p.accuracy));
    const describe = i => {
      const p = points[i];
      return [`${percent(p.accuracy)} held-out`, `${bytes(p.weight_bytes)}, ${short(p.compression)}× smaller`, bitops(p.bitops),
        has(p.latency_ms) ? `${ms(p.latency_ms)} predicted` : null, p.how].filter(has).join('\n');
    };

    function select(i) {
      selected = i;
      panel.replaceChildren(...planPanel(points[i]).flat());
      chart.select(i);
      list.replaceChildren(table([
        { title: 'Accuracy', number: true, cell: p => percent(p.accuracy) },
        ...known.map(c => ({ title: c.title, number: true, cell: p => c.format(p[c.key]) })),
        { title: 'Weight bits', number: true, cell: p => p.avg_weight_bits.toFixed(2) },
        { title: 'Found', cell: p => p.how },
        { title: 'Plan', cell: (p, k) => h('button', { type: 'button', 'aria-pressed': String(k === selected), onclick: () => select(k) }, k === selected ? 'shown' : 'show') },
      ], points, (p, k) => (k === selected ? 'selected' : null)));
    }

    function draw(next) {
      cost = next;
      buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(known[i] === cost)));
      if (chart) drawn.splice(drawn.indexOf(chart), 1);
      chart = charts.scatter(host, {
        label: `Held-out accuracy against ${cost.label} of ${points.length} plans; the list below has the figures`,
        points: points.map(p => ({ x: p[cost.key], y: 100 * p.accuracy, front: isFront(p, cost.key), chosen: p.chosen })),
        xLabel: cost.label, yLabel: 'held-out accuracy, %', formatX: cost.format, mostY: 100, formatY: fixed, describe, selected, onSelect: select, height: 400,
      });
      drawn.push(chart);
      select(selected);
    }

    const legend = h('div', { class: 'legend' },
      points.some(p => p.chosen) && h('span', {}, h('i', { class: 'round activations' }), 'packed plan'),
      h('span', {}, h('i', { class: 'round' }), 'no plan is better in both'),
      known.some(c => points.some(p => !p.chosen && !isFront(p, c.key))) && h('span', {}, h('i', { class: 'round faint' }), 'better only in another cost'), h('span', {}, h('i', { class: 'round ring' }), 'shown'));
    const result = section('Plans found', 'pareto', known.length > 1 && h('div', { class: 'segments', role: 'group', 'aria-label': 'Cost' }, buttons),
      h('p', { class: 'note' }, 'Plans that no other beats in accuracy and every cost at once, measured on held-out images during the search. Choose a point to see its bits.'),
      h('div', { class: 'split' }, h('div', {}, host, legend), panel), h('details', {}, h('summary', {}, points.length === 1 ? 'The plan as a list' : `All ${points.length} plans as a list`), list));
    result.draw = () => { draw(cost); window.bitstrataPareto = { points, position: i => chart.position(i) }; };
    return result;
  }

  // ---- training ---------------------------------------------------------------------------------------------------------------------------------
  function training() {
    const epochs = data.epochs;
    if (!epochs.length) return data.run ? section('Training', 'training', null, h('p', { class: 'note' }, 'The network was packed without training.')) : null;
    const x = epochs.map(e => e.epoch), loss = h('div', { class: 'chart' }), accuracy = h('div', { class: 'chart' });
    const last = epochs[epochs.length - 1], whole = v => (Number.isInteger(v) ? String(v) : '');
    const heldOut = epochs.every(e => e.holdout_accuracy !== undefined);  // not with --all-images
    const result = section('Training', 'training', null, h('p', { class: 'note' }, `${heldOut ? 'Held-out accuracy is that of the lowered network, in the arithmetic of the runtime.' : 'All training images were trained on, none was held out.'} Training accuracy is on augmented images.`),
      h('div', { class: 'pair' },
        h('figure', {}, h('h3', {}, 'Accuracy'), accuracy, h('div', { class: 'legend' }, heldOut ? h('span', {}, h('i', { class: 'line' }), 'held-out') : null, h('span', {}, h('i', { class: 'line activations' }), 'training'))),
        h('figure', {}, h('h3', {}, 'Loss'), loss, h('div', { class: 'legend' }, h('span', {}, h('i', { class: 'line' }), 'training loss')))),
      h('details', {}, h('summary', {}, 'Figures of every epoch'), h('div', { class: 'scroll' }, table([
        { title: 'Epoch', cell: e => String(e.epoch) },
        { title: 'Loss', number: true, cell: e => e.loss.toFixed(4) },
        { title: 'Training', number: true, cell: e => percent(e.train_accuracy) },
        ...(heldOut ? [{ title: 'Held-out', number: true, cell: e => percent(e.holdout_accuracy) }] : [])], epochs))));
    result.draw = () => {
      drawn.push(charts.lines(accuracy, {
        label: `Accuracy over ${epochs.length} epochs, at the end ${heldOut ? `${percent(last.holdout_accuracy)} on held-out images` : `${percent(last.train_accuracy)} on training images`}`, x, xLabel: 'epoch', yLabel: '%', formatX: whole,
        mostY: 100, formatY: fixed,
        series: [{ label: 'training', color: '--activations', values: epochs.map(e => 100 * e.train_accuracy) },
          ...(heldOut ? [{ label: 'held-out', color: '--weights', values: epochs.map(e => 100 * e.holdout_accuracy) }] : [])],
        describe: i => `epoch ${x[i]}${heldOut ? `\nheld-out ${percent(epochs[i].holdout_accuracy)}` : ''}\ntraining ${percent(epochs[i].train_accuracy)}`,
      }));
      drawn.push(charts.lines(loss, {
        label: `Loss over ${epochs.length} epochs, at the end ${last.loss.toFixed(3)}`, x, xLabel: 'epoch', yLabel: 'loss', formatX: whole, formatY: fixed,
        series: [{ label: 'loss', color: '--weights', values: epochs.map(e => e.loss) }], describe: i => `epoch ${x[i]}\nloss ${epochs[i].loss.toFixed(4)}`,
      }));
    };
    return result;
  }

  // ---- comparison -------------------------------------------------------------------------------------------------------------------------------
  function comparison() {
    const compare = data.compare;
    if (!compare || !compare.rows.length) return null;
    const done = compare.rows.filter(r => r.runs > 0), best = Math.max(...done.map(r => r.accuracy));
    const rows = [...compare.rows];
    if (done.length) {
      const weights = done[0].weight_bytes * done[0].compression;
      rows.unshift({ name: 'float', runs: 1, accuracy: done[0].float_accuracy, float_accuracy: done[0].float_accuracy, weight_bytes: weights, compression: 1, avg_weight_bits: 32, avg_activation_bits: 32, options: [], float: true });
    }
    const if_done = (cell, missing = () => '–') => r => (r.runs ? cell(r) : missing(r));
    const columns = [
      { title: 'Method', name: true, cell: r => r.name },
      { title: 'Accuracy', number: true, cell: if_done(r => {
        const text = percent(r.accuracy).replace(' %', '') + (has(r.accuracy_deviation) ? ` ± ${(100 * r.accuracy_deviation).toFixed(2)}` : '') + ' %';
        return !r.float && r.accuracy === best ? h('strong', {}, text) : text;
      }, r => (r.failed ? 'no result' : 'to do')) },
      { title: 'Change', number: true, cell: if_done(r => (r.float ? '–' : signed(100 * (r.accuracy - r.float_accuracy)))) },
      { title: 'Weights', number: true, cell: if_done(r => bytes(Math.round(r.weight_bytes))) },
      { title: 'Smaller', number: true, cell: if_done(r => `${short(r.compression)}×`) },
      { title: 'W / A bits', number: true, cell: if_done(r => `${r.avg_weight_bits.toFixed(r.float ? 0 : 2)} / ${r.avg_activation_bits.toFixed(r.float ? 0 : 2)}`) },
      { title: 'BitOPs', number: true, cell: if_done(r => (has(r.bitops) ? bitops(r.bitops).replace('BitOPs', '').trim() : '–')) },
      { title: 'Search', number: true, cell: if_done(r => (has(r.search_seconds) ? duration(r.search_seconds) : '–')) },
      { title: 'Total', number: true, cell: if_done(r => (has(r.seconds) ? duration(r.seconds) : '–')) },
    ];
    const seeds = compare.seeds.length > 1 ? `Means over seeds ${compare.seeds.join(', ')}; ± is the standard deviation.` : `Seed ${compare.seeds.join(', ')}.`;
    const failed = compare.rows.filter(r => r.failed > 0).map(r => `${r.name}: ${r.failed} did not meet its targets.`).join(' ');
    const host = h('div', { class: 'chart' }), list = table(columns, rows, r => (r.this ? 'this' : null));
    const result = section('Methods side by side', 'compare', null,
      h('p', { class: 'note' }, `Accuracy on test images. ${seeds} ${failed}`), done.length > 1 && host, h('div', { class: 'scroll' }, list),
      h('details', {}, h('summary', {}, 'Options'), h('p', { class: 'note' }, 'All rows: ', h('code', {}, compare.options.join(' ') || 'none'), compare.cpu ? `, on ${compare.cpu}.` : '.'),
        compare.rows.map(r => h('p', { class: 'note' }, `${r.name}: `, h('code', {}, r.options.join(' '))))));
    result.draw = () => {
      if (done.length < 2) return;
      const mark = i => [...list.tBodies[0].rows].forEach((row, k) => row.classList.toggle('selected', rows[k] === done[i]));
      const beaten = p => done.some(q => q !== p && q.weight_bytes <= p.weight_bytes && q.accuracy >= p.accuracy && (q.weight_bytes < p.weight_bytes || q.accuracy > p.accuracy));
      const points = done.map(r => ({ x: r.weight_bytes, y: 100 * r.accuracy, front: !beaten(r), chosen: Boolean(r.this), name: r.name }));
      // Points that are nearly one share a name.
      const spread = key => Math.max(...points.map(p => p[key])) - Math.min(...points.map(p => p[key]));
      const near = (p, q) => ['x', 'y'].every(key => Math.abs(p[key] - q[key]) <= 0.05 * spread(key));
      points.forEach((p, i) => {
        const first = points.find((q, k) => k < i && q.name && near(p, q));
        if (first) [first.name, p.name] = [`${first.name}, ${p.name}`, ''];
      });
      const chart = charts.scatter(host, {
        label: `Test accuracy against packed weights of ${done.length} rows; the table has the figures`,
        points,
        xLabel: 'packed weights', yLabel: 'test accuracy, %', formatX: bytes, mostY: 100, formatY: fixed, height: 300, selected: -1,
        describe: i => `${done[i].name}\n${percent(done[i].accuracy)}\n${bytes(Math.round(done[i].weight_bytes))}, ${short(done[i].compression)}× smaller`,
        onSelect: i => { mark(i); chart.select(i); },
      });
      drawn.push(chart);
      window.bitstrataCompare = { rows: done, position: i => chart.position(i) };
    };
    return result;
  }

  // Lines break between words, as a shell's would; the text stays one line for the clipboard.
  function command(text) {
    const copy = h('button', { type: 'button', onclick: () => {
      const done = () => { copy.textContent = 'Copied'; setTimeout(() => { copy.textContent = 'Copy'; }, 1500); };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, () => {});
    } }, 'Copy');
    return h('div', { class: 'command' }, h('pre', {}, text.split(/( +)/).map(word => (word.trim() ? h('span', {}, word) : word))), copy);
  }

  // ---- how to run it again ----------------------------------------------------------------------------------------------------------------
  function reproduce() {
    const run = data.run || {}, of = data.has_job ? {} : data.compare || {};
    const seeds = of.seeds ? of.seeds.join(', ') : null;
    const facts = [
      ['Seed', has(data.seed) ? data.seed : has(run.seed) ? run.seed : seeds], ['Version', run.version || of.version || data.version],
      [run.cpu || of.cpu ? 'CPU' : 'CPU of this report', run.cpu || of.cpu || data.cpu], ['Instruction set', data.isa],
      ['Threads', run.threads], ['Total time', has(run.seconds) ? duration(run.seconds) : null], ['Search time', has(run.search_seconds) ? duration(run.search_seconds) : null],
      ['Peak memory', has(run.peak_mib) ? `${Math.round(run.peak_mib)} MiB` : null], ['model.bst', has(data.model_bytes) ? bytes(data.model_bytes) : null],
    ].filter(([, value]) => has(value));
    // A job's folder tells the job's command; a folder of compare that of the comparison.
    const text = data.command || (!data.has_job && data.compare ? data.compare.command : null);
    return section('Run it again', 'reproduce', null, text && command(text),
      h('dl', { class: 'facts' }, facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, String(value))))));
  }

  // ---- the page ---------------------------------------------------------------------------------------------------------------------------------
  const what = [data.method, data.policy, data.data, has(data.seed) ? `seed ${data.seed}` : null].filter(Boolean).join(' · ');
  const state = !data.has_job ? 'Comparison of methods' : data.run ? what : `${what}${what ? ' · ' : ''}not finished: figures so far`;
  const sections = [summary(), targets(), widths(), pareto(), layers(), training(), comparison(), reproduce()].filter(Boolean);
  document.title = `${data.title} – bitstrata report`;
  setTheme(asked === 'dark' || asked === 'light' ? asked : systemTheme(), false);
  document.getElementById('report').replaceChildren(
    h('header', {}, h('div', {}, h('div', { class: 'brand' }, h('i', { 'aria-hidden': 'true' }, h('b'), h('b'), h('b')), 'bitstrata report'), h('h1', {}, data.title), h('p', { class: 'sub' }, state)), toggle),
    ...sections,
    h('footer', {}, `bitstrata ${data.version} · ${data.charts ? `charts by ${data.charts}` : 'plain charts: this bitstrata was built without a chart library'}`));
  for (const part of sections) if (part.draw) part.draw();
})();
