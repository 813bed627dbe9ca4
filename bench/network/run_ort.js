// Measures a network on ONNX Runtime as `bitstrata bench` measures one: a fifth of the time unmeasured, then at least 10 runs.
//
// usage: node run_ort.js NODE_MODULES MODEL.onnx BATCH THREADS SECONDS
// Prints {"median_ms", "runs", "peak_mib", "network_mib"}: the process' peak memory, and by how much it exceeds what was resident with the
// library loaded.
'use strict';

const fs = require('fs');
const path = require('path');

const [folder, model, batch, threads, seconds] = process.argv.slice(2);
const ort = require(path.join(path.resolve(folder), 'onnxruntime-node'));

const elapsedMs = (since) => Number(process.hrtime.bigint() - since) / 1e6;

function statusMib(key) {
  const line = fs.readFileSync('/proc/self/status', 'utf8').split('\n').find((l) => l.startsWith(`${key}:`));
  return Number(line.match(/\d+/)[0]) / 1024;
}

async function main() {
  const before = statusMib('VmRSS');
  const session = await ort.InferenceSession.create(model, {
    intraOpNumThreads: Number(threads),
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const dims = [Number(batch), ...session.inputMetadata[0].shape.slice(1)];
  const data = Float32Array.from({length: dims.reduce((a, b) => a * b, 1)}, () => 2 * Math.random() - 1);
  const feeds = {[session.inputNames[0]]: new ort.Tensor('float32', data, dims)};

  const warmUp = process.hrtime.bigint();
  do await session.run(feeds);
  while (elapsedMs(warmUp) < 200 * seconds);

  const times = [];
  const start = process.hrtime.bigint();
  while (times.length < 10 || elapsedMs(start) < 1000 * seconds) {
    const call = process.hrtime.bigint();
    await session.run(feeds);
    times.push(elapsedMs(call));
  }
  times.sort((a, b) => a - b);
  const peak = statusMib('VmHWM');
  console.log(
    JSON.stringify({
      median_ms: times[Math.round((times.length - 1) / 2)],
      runs: times.length,
      peak_mib: peak,
      network_mib: peak - before,
    }),
  );
}

main().catch((error) => {
  console.error(`run_ort.js: error: ${error.message}`);
  process.exit(1);
});
