<?php
// Sends one message with PEAR's Net_SMTP; see README.md.
require 'Net/SMTP.php';

[, $file, $reverse_path] = $argv;
$forward_paths = array_slice($argv, 3);

function must($done, $what)
{
    if ((new PEAR())->isError($done)) {
        fwrite(STDERR, "$what: " . $done->getMessage() . ' ' . $done->getUserInfo() . "\n");
        exit(1);
    }
}

$tls = getenv('SMTP_TLS');
$host = ($tls === 'implicit' ? 'ssl://' : '') . getenv('SMTP_HOST');
$options = ['ssl' => ['cafile' => getenv('SMTP_CA')]];
$smtp = new Net_SMTP($host, (int) getenv('SMTP_PORT'), getenv('SMTP_HELLO'), true, 60, $options);
must($smtp->connect(60), 'connect');
if ($tls === 'starttls') {
    must($smtp->starttls(), 'STARTTLS');
}
if (getenv('SMTP_USER')) {
    must($smtp->auth(getenv('SMTP_USER'), getenv('SMTP_PASSWORD'), 'LOGIN', false), 'AUTH');
}
must($smtp->mailFrom($reverse_path), 'MAIL');
foreach ($forward_paths as $forward_path) {
    must($smtp->rcptTo($forward_path), "RCPT $forward_path");
}
must($smtp->data(file_get_contents($file)), 'DATA');
$smtp->disconnect();
