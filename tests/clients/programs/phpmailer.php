<?php
// Sends one message that PHPMailer composes: SPEC; the server is told as in README.md. SPEC is a JSON file with
// id, message_id, date, from, to, subject, text, attachment.
require 'libphp-phpmailer/autoload.php';

$spec = json_decode(file_get_contents($argv[1]));
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = getenv('SMTP_HOST');
$mail->Port = (int) getenv('SMTP_PORT');
$mail->Helo = getenv('SMTP_HELLO');
$mail->Timeout = 60;
$mail->SMTPAutoTLS = false;
$mail->SMTPSecure = ['none' => '', 'starttls' => 'tls', 'implicit' => 'ssl'][getenv('SMTP_TLS')];
$mail->SMTPOptions = ['ssl' => ['cafile' => getenv('SMTP_CA')]];
if (getenv('SMTP_USER')) {
    $mail->SMTPAuth = true;
    $mail->Username = getenv('SMTP_USER');
    $mail->Password = getenv('SMTP_PASSWORD');
}
$mail->CharSet = 'utf-8';
$mail->Encoding = '8bit';
$mail->XMailer = ' ';
$mail->MessageID = $spec->message_id;
$mail->MessageDate = $spec->date;
$mail->addCustomHeader('X-Id', $spec->id);
$mail->setFrom($spec->from, '', false);
$mail->Sender = $spec->from;
foreach ($spec->to as $forward_path) {
    $mail->addAddress($forward_path);
}
$mail->Subject = $spec->subject;
$mail->Body = $spec->text;
$mail->AllowEmpty = true;
if ($spec->attachment) {
    $mail->addAttachment($spec->attachment);
}
try {
    $mail->send();
} catch (Exception $fault) {
    fwrite(STDERR, $fault->getMessage() . "\n");
    exit(1);
}
