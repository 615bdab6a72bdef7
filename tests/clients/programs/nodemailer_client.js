// Sends one message with nodemailer: MODULES SPEC; the server is told as in README.md. SPEC is a JSON file:
//   envelope: {from, to, use8BitMime}; and either raw: FILE, or what nodemailer composes a message from.
'use strict';
const fs = require('fs');
const path = require('path');

const [modules, specFile] = process.argv.slice(2);
const nodemailer = require(path.join(modules, 'nodemailer'));
const { raw, ...message } = JSON.parse(fs.readFileSync(specFile, 'utf8'));
if (raw) {
  message.raw = fs.readFileSync(raw);
}

const { SMTP_HOST, SMTP_PORT, SMTP_TLS, SMTP_CA, SMTP_USER, SMTP_PASSWORD, SMTP_HELLO } = process.env;
const transport = nodemailer.createTransport({
  host: SMTP_HOST,
  port: Number(SMTP_PORT),
  name: SMTP_HELLO,
  secure: SMTP_TLS === 'implicit',
  ignoreTLS: SMTP_TLS === 'none',
  requireTLS: SMTP_TLS === 'starttls',
  tls: { ca: fs.readFileSync(SMTP_CA) },
  auth: SMTP_USER ? { user: SMTP_USER, pass: SMTP_PASSWORD } : undefined,
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
