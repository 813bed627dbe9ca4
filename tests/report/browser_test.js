// Opens a report in headless Chromium at phone and desktop width, light and dark, and uses it as a reader would.
//
// usage: node browser_test.js CHROMIUM REPORT.html FOLDER [compare]      Screenshots go to FOLDER. Prints every failure; exit status 1 if there is one.
'use strict';

const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');

const [chromium, report, folder, more] = process.argv.slice(2);
const checks_compare = more === 'compare';
const failures = [];
let where = '';

function check(condition, what) {
  if (!condition) failures.push(`${where}: ${what}`);
}

// Chromium's DevTools protocol over its pipe: JSON messages that end with a zero byte, on file descriptors 3 and 4.
class Browser {
  constructor() {
    this.profile = fs.mkdtempSync(path.join(folder, 'profile-'));
    this.process = spawn(chromium, ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
      '--disable-background-networking', '--remote-debugging-pipe', `--user-data-dir=${this.profile}`, 'about:blank'],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    this.waiting = new Map();
    this.listeners = [];
    this.next = 1;
    let text = '';
    this.process.stdio[4].on('data', chunk => {
      text += chunk;
      const messages = text.split('\0');
      text = messages.pop();
      messages.forEach(message => this.receive(JSON.parse(message)));
    });
    this.process.on('exit', () => this.waiting.forEach(({ reject }) => reject(new Error('chromium has ended'))));
  }

  receive(message) {
    const call = this.waiting.get(message.id);
    if (!call) return this.listeners.forEach(listener => listener(message));
    this.waiting.delete(message.id);
    if (message.error) call.reject(new Error(`${call.method}: ${message.error.message}`));
    else call.resolve(message.result);
  }

  call(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + '\0');
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject, method }));
  }

  async end() {
    const ended = new Promise(resolve => this.process.on('exit', resolve));
    await this.call('Browser.close').catch(() => {});
    await ended;
    fs.rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  static async open(browser, width, theme) {
    const { targetId } = await browser.call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await browser.call('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page();
    page.call = (method, params) => browser.call(method, params, sessionId);
    page.close = () => browser.call('Target.closeTarget', { targetId });
    let loaded;
    const load = new Promise(resolve => { loaded = resolve; });
    browser.listeners = [({ method, params, sessionId: from }) => {
      if (from !== sessionId) return;
      if (method === 'Runtime.exceptionThrown') check(false, `exception: ${JSON.stringify(params.exceptionDetails)}`);
      if (method === 'Runtime.consoleAPICalled' && params.type === 'error') check(false, `console: ${JSON.stringify(params.args)}`);
      if (method === 'Log.entryAdded' && params.entry.level === 'error') check(false, `log: ${params.entry.text}`);
      if (method === 'Network.requestWillBeSent') check(/^(file|data):/.test(params.request.url), `it asks for ${params.request.url}`);
      if (method === 'Page.loadEventFired') loaded();
    }];
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.call(`${domain}.enable`);
    await page.call('Emulation.setDeviceMetricsOverride', { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 });
    await page.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: theme }] });
    await page.call('Page.navigate', { url: `file://${path.resolve(report)}` });
    await load;
    return page;
  }

  async evaluate(expression) {
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression: `(() => { ${expression} })()`, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails.exception)}`);
    return result.value;
  }

  async mouse(type, x, y) {
    await this.call('Input.dispatchMouseEvent', { type, x, y, button: type === 'mouseMoved' ? 'none' : 'left', clickCount: 1 });
  }

  async click(x, y) {
    await this.mouse('mouseMoved', x, y);
    await this.mouse('mousePressed', x, y);
    await this.mouse('mouseReleased', x, y);
  }

  // Layout and drawing follow a change within two frames.
  settle() {
    return this.call('Runtime.evaluate', { expression: 'new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))', awaitPromise: true });
  }

  async screenshot(name) {
    const { cssContentSize: size } = await this.call('Page.getLayoutMetrics');
    const clip = { x: 0, y: 0, width: size.width, height: size.height, scale: 1 };
    const { data } = await this.call('Page.captureScreenshot', { captureBeyondViewport: true, clip });
    fs.writeFileSync(path.join(folder, name), Buffer.from(data, 'base64'));
  }
}

const luminance = 'const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number); return r + g + b;';

async function check_layout(page, width) {
  check(await page.evaluate('return document.documentElement.scrollWidth') <= width, `wider than the window: ${await page.evaluate(
    'return [...document.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className).slice(0, 5).join(" ")')}`);
  check(await page.evaluate('return document.querySelectorAll("section").length') >= 4, 'fewer than four sections');
  check(await page.evaluate('return window.hacked === undefined && !document.querySelector("img")'), 'a name from a file has become markup');
}

// Clicks the plan that differs most from the one shown and compares the panel with the data.
async function check_pareto(page) {
  const points = await page.evaluate('return window.bitstrataPareto ? bitstrataPareto.points : null');
  check(points && points.length > 0, 'no Pareto front');
  if (!points || !points.length) return;
  await page.evaluate('document.getElementById("pareto").scrollIntoView({block: "start"})');
  await page.settle();
  for (const index of [points.length - 1, 0]) {
    const [x, y] = await page.evaluate(`return bitstrataPareto.position(${index})`);
    await page.click(x, y);
    await page.settle();
    const shown = await page.evaluate('return [...document.querySelectorAll(".plan .layers div")].map(e => e.innerText.replace(/\\s+/g, " ").trim())');
    const expected = points[index].layers.map(l => `${l.name} W${l.weight_bits} A${l.activation_bits}`.replace(/\s+/g, ' '));
    check(JSON.stringify(shown) === JSON.stringify(expected), `clicked plan ${index}: found ${shown}, expected ${expected}`);
    const accuracy = `${(100 * points[index].accuracy).toFixed(2)} %`;
    const tip = await page.evaluate('const t = document.querySelector("#pareto .tip, #pareto svg title"); return t && !t.hidden ? t.textContent : ""');
    check(tip !== '', 'no figures while the pointer is on a plan');
    const panel = await page.evaluate('return document.querySelector(".plan").innerText');
    check(panel.includes(accuracy), `the panel lacks ${accuracy}`);
  }
}

// The rows of a comparison, two of which have results: the chart names them, a click marks the row.
async function check_compare(page) {
  const names = await page.evaluate('return window.bitstrataCompare ? bitstrataCompare.rows.map(r => r.name) : null');
  check(names && names.length === 2, `the comparison's chart has ${names}`);
  if (!names) return;
  await page.evaluate('document.getElementById("compare").scrollIntoView({block: "start"})');
  await page.settle();
  const [x, y] = await page.evaluate('return bitstrataCompare.position(1)');
  await page.click(x, y);
  await page.settle();
  const marked = await page.evaluate('return [...document.querySelectorAll("#compare tr.selected td.name")].map(e => e.innerText.trim())');
  check(marked.length === 1 && marked[0] === names[1], `clicked ${names[1]}, marked ${marked}`);
}

async function check_widths(page) {
  const rows = await page.evaluate('return [...document.querySelectorAll("#widths td.name")].map(e => e.innerText.trim())');
  check(['float', 'int8 (W8 A8)', 'this plan'].every(name => rows.includes(name)), `side by side: found ${rows}`);
}

// No two ticks of an axis read the same.
async function check_ticks(page) {
  const same = await page.evaluate(`const texts = [...document.querySelectorAll('.chart svg text[text-anchor="end"]')].map(e => [e.closest('svg').ariaLabel, e.textContent].join(' '));
    return texts.filter((text, i) => texts.indexOf(text) !== i);`);
  check(same.length === 0, `labels come twice: ${same}`);
}

async function check_toggle(page) {
  const before = await page.evaluate(luminance);
  await page.evaluate('document.querySelector(".theme").click()');
  const after = await page.evaluate(luminance);
  check(Math.abs(before - after) > 300, `the toggle changes the background from ${before} to ${after}`);
  await page.evaluate('document.querySelector(".theme").click()');
  check(await page.evaluate(luminance) === before, 'the toggle does not go back');
}

async function main() {
  fs.mkdirSync(folder, { recursive: true });
  const browser = new Browser();
  for (const width of [390, 1280]) {
    for (const theme of ['light', 'dark']) {
      where = `${width} px, ${theme}`;
      const page = await Page.open(browser, width, theme);
      await page.settle();
      await check_layout(page, width);
      check((await page.evaluate(luminance) > 380) === (theme === 'light'), 'the background does not follow prefers-color-scheme');
      await check_pareto(page);
      await check_widths(page);
      await check_ticks(page);
      if (checks_compare) await check_compare(page);
      await check_toggle(page);
      await page.evaluate('scrollTo(0, 0)');
      await page.settle();
      await page.screenshot(`${width}-${theme}.png`);
      await page.close();
    }
  }
  await browser.end();
  failures.forEach(failure => console.log(failure));
  console.log(failures.length ? `${failures.length} failures` : `${report}: all well`);
  process.exitCode = failures.length ? 1 : 0;
}

main().catch(error => {
  console.log(String(error.stack));
  process.exit(1);
});
