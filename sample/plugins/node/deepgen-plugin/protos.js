// The protocol's .proto files: those of the tree around this folder, else the copy that `npm run protos` makes.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');

const SERVICES = ['plugin', 'processor', 'metric'].map((name) => `deepgen/v1/${name}_service.proto`);
const COPY = path.join(__dirname, '..', 'protos');
const TREE = path.join(__dirname, '..', '..', '..', '..', 'proto');

// The messages and services of the package deepgen.v1.
function load() {
  const folder = [TREE, COPY].find((each) => fs.existsSync(path.join(each, SERVICES[0])));
  if (!folder) throw new Error(`there are no .proto files in ${COPY}; \`npm run protos\` copies them from DeepGen`);
  const definition = require('@grpc/proto-loader').loadSync(SERVICES, {
    includeDirs: [folder],
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  return require('@grpc/grpc-js').loadPackageDefinition(definition).deepgen.v1;
}

// Copies them from the DeepGen of the Python that `PYTHON` names.
function copy() {
  const where = 'import deepgen.v1, pathlib; print(pathlib.Path(deepgen.v1.__file__).parent)';
  const source = execFileSync(process.env.PYTHON || 'python', ['-c', where], { encoding: 'utf8' }).trim();
  const target = path.join(COPY, 'deepgen', 'v1');
  const names = fs.readdirSync(source).filter((name) => name.endsWith('.proto'));
  if (!names.length) throw new Error(`the DeepGen in ${source} has no .proto files`);
  fs.mkdirSync(target, { recursive: true });
  for (const name of names) fs.copyFileSync(path.join(source, name), path.join(target, name));
  console.log(`${names.length} files from ${source}`);
}

if (require.main === module) copy();

module.exports = { load };
