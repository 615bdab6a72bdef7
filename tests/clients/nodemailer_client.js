// Sends one message with nodemailer: MODULES PORT SPEC, where SPEC is a JSON file:
//   envelope: {from, to, use8BitMime}; and either raw: FILE, or what nodemailer composes a message from.
'use strict';
const fs = require('fs');
const path = require('path');

const [modules, port, specFile] = process.argv.slice(2);
const nodemailer = require(path.join(modules, 'nodemailer'));
const { raw, ...message } = JSON.parse(fs.readFileSync(specFile, 'utf8'));
if (raw) {
  message.raw = fs.readFileSync(raw);
}

const transport = nodemailer.createTransport({
  host: '127.0.0.1',
  port: Number(port),
  name: 'client.example',
  secure: false,
  ignoreTLS: true,
});
transport
  .sendMail(message)
  .then((result) => {
    if (result.rejected.length) {
      throw new Error(`refused: ${result.rejected}`);
    }
  })
  .catch((error) => {
    console.error(String(error));
    process.exitCode = 1;
  })
  .finally(() => transport.close());
