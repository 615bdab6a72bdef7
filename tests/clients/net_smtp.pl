# Sends one message with Net::SMTP: PORT 8BIT(0|1) FILE REVERSE-PATH FORWARD-PATH...
use strict;
use warnings;
use Net::SMTP;

my ($port, $eight_bit, $file, $reverse_path, @forward_paths) = @ARGV;
open(my $message, '<:raw', $file) or die "$file: $!\n";
my $smtp = Net::SMTP->new("127.0.0.1:$port", Hello => 'client.example', Timeout => 60) or die "no session: $@\n";

sub must {
    my ($done, $what) = @_;
    die "$what: " . $smtp->code . ' ' . $smtp->message unless $done;
}

must($smtp->mail($reverse_path, $eight_bit ? (Bits => '8') : ()), 'MAIL');
must($smtp->recipient($_), "RCPT $_") for @forward_paths;
must($smtp->data, 'DATA');
while (read($message, my $block, 65_536)) {
    must($smtp->datasend($block), 'mail data');
}
must($smtp->dataend, 'final dot');
$smtp->quit;
