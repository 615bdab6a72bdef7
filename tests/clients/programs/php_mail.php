<?php
// Sends one message with mail(), which calls the sendmail of php.ini; see README.md.
[, $file, $reverse_path] = $argv;
$forward_paths = array_slice($argv, 3);

[$header, $body] = explode("\r\n\r\n", file_get_contents($file) . "\r\n\r\n", 2);
$body = substr($body, 0, -4);
// mail() writes these two itself.
$own = ['subject', 'to'];
$given = [];
$subject = '';
foreach (explode("\r\n", $header) as $field) {
    [$name, $value] = explode(': ', $field, 2);
    if (!in_array(strtolower($name), $own)) {
        $given[] = $field;
    } elseif (strtolower($name) === 'subject') {
        $subject = $value;
    }
}
$taken = mail(implode(', ', $forward_paths), $subject, $body, implode("\r\n", $given), "-f$reverse_path");
exit($taken ? 0 : 1);
