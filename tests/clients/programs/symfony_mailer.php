<?php
// Sends one message with Symfony's mailer; see README.md.
require 'Symfony/Component/Mailer/autoload.php';

use Symfony\Component\Mailer\Envelope;
use Symfony\Component\Mailer\Transport\Smtp\EsmtpTransport;
use Symfony\Component\Mime\Address;
use Symfony\Component\Mime\RawMessage;

[, $file, $reverse_path] = $argv;
$forward_paths = array_slice($argv, 3);

$tls = getenv('SMTP_TLS');
// It uses STARTTLS by itself wherever that is offered.
$transport = new EsmtpTransport(getenv('SMTP_HOST'), (int) getenv('SMTP_PORT'), $tls === 'implicit');
$transport->setLocalDomain(getenv('SMTP_HELLO'));
$transport->getStream()->setStreamOptions(['ssl' => ['cafile' => getenv('SMTP_CA')]]);
if (getenv('SMTP_USER')) {
    $transport->setUsername(getenv('SMTP_USER'));
    $transport->setPassword(getenv('SMTP_PASSWORD'));
}
$addresses = array_map(fn ($forward_path) => new Address($forward_path), $forward_paths);
try {
    $envelope = new Envelope(new Address($reverse_path), $addresses);
    $transport->send(new RawMessage(file_get_contents($file)), $envelope);
} catch (Exception $fault) {
    fwrite(STDERR, $fault->getMessage() . "\n");
    exit(1);
}
