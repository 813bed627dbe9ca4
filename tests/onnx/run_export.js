// Runs exported ONNX models on ONNX Runtime.
//
// usage: node run_export.js MODULES WORK LEVEL
//
// MODULES holds node_modules, LEVEL is the graphOptimizationLevel ('all' is what ONNX Runtime does by default). For every NAME.onnx of WORK reads WORK/NAME.input.f32 (images as raw little-endian float32) and writes the
// model's outputs one after the other to WORK/NAME.output.f32, or what ONNX Runtime said against it to WORK/NAME.error.txt.
'use strict';

const fs = require('fs');
const path = require('path');

const ort = require(path.join(path.resolve(process.argv[2]), 'node_modules', 'onnxruntime-node'));
const work = path.resolve(process.argv[3]);

async function run(name) {
  const session = await ort.InferenceSession.create(path.join(work, name + '.onnx'), {
    intraOpNumThreads: 1,
    graphOptimizationLevel: process.argv[4],
    logSeverityLevel: 3,
  });
  const bytes = fs.readFileSync(path.join(work, name + '.input.f32'));
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const dims = session.inputMetadata[0].shape.slice(1);
  const elems = dims.reduce((a, b) => a * b, 1);
  const results = await session.run({
    [session.inputNames[0]]: new ort.Tensor('float32', values, [values.length / elems, ...dims]),
  });
  const outputs = session.outputNames.map((output) => {
    const data = results[output].data;
    return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  });
  fs.writeFileSync(path.join(work, name + '.output.f32'), Buffer.concat(outputs));
  await session.release();
}

async function main() {
  const models = fs.readdirSync(work).filter((file) => file.endsWith('.onnx'));
  for (const name of models.map((file) => path.basename(file, '.onnx'))) {
    try {
      await run(name);
    } catch (error) {
      fs.writeFileSync(path.join(work, name + '.error.txt'), error.message);
    }
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
