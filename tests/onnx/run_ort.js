// Runs ONNX models on ONNX Runtime with seeded noise and keeps input and output as raw little-endian float32.
//
// usage: node run_ort.js FOLDER MODEL.onnx...
//
// FOLDER holds node_modules. Writes FOLDER/input.f32 ([2, 3, 224, 224]) and, for each model, FOLDER/NAME.output.f32: the
// outputs of both images, of the first one alone where the model's batch is fixed at 1. Finished models are left alone.
'use strict';

const fs = require('fs');
const path = require('path');

const folder = path.resolve(process.argv[2]);
const ort = require(path.join(folder, 'node_modules', 'onnxruntime-node'));

const BATCH = 2;
const DIMS = [3, 224, 224];
const ELEMS = DIMS.reduce((a, b) => a * b, 1);

// Sum of uniform numbers of a 32-bit linear congruential generator: about normal, the same everywhere.
function noise(count, seed) {
  let state = seed >>> 0;
  const values = new Float32Array(count);
  for (let i = 0; i < count; ++i) {
    let sum = 0;
    for (let k = 0; k < 4; ++k) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      sum += state / 4294967296 - 0.5;
    }
    values[i] = 1.7 * sum;
  }
  return values;
}

function bytes(floats) {
  return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength);
}

function write(file, floats) {
  fs.writeFileSync(file + '.tmp', bytes(floats));
  fs.renameSync(file + '.tmp', file);
}

async function run(model, input) {
  const session = await ort.InferenceSession.create(model, {
    intraOpNumThreads: 1,
    graphOptimizationLevel: 'disabled',
    logSeverityLevel: 3,
  });
  const name = session.inputNames[0];
  const evaluate = async (images) => {
    const data = input.subarray(0, images * ELEMS);
    const results = await session.run({[name]: new ort.Tensor('float32', data, [images, ...DIMS])});
    return results[session.outputNames[0]].data;
  };
  const fixed = session.inputMetadata[0].shape[0];
  const output = await evaluate(fixed === 1 ? 1 : BATCH);
  await session.release();
  return output;
}

async function main() {
  const input = noise(BATCH * ELEMS, 1);
  write(path.join(folder, 'input.f32'), input);
  for (const model of process.argv.slice(3)) {
    const output = path.join(folder, path.basename(model, '.onnx') + '.output.f32');
    if (fs.existsSync(output) && fs.statSync(output).mtimeMs >= fs.statSync(model).mtimeMs) continue;
    write(output, await run(model, input));
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
