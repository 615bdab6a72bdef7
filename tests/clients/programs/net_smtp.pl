# Sends one message with Net::SMTP; see README.md.
use strict;
use warnings;
use Net::SMTP;

my ($file, $reverse_path, @forward_paths) = @ARGV;
my %trust = (SSL_ca_file => $ENV{SMTP_CA});
open(my $message, '<:raw', $file) or die "$file: $!\n";
my $smtp = Net::SMTP->new(
    $ENV{SMTP_HOST},
    Port => $ENV{SMTP_PORT},
    Hello => $ENV{SMTP_HELLO},
    Timeout => 60,
    $ENV{SMTP_TLS} eq 'implicit' ? (SSL => 1, %trust) : (),
) or die "no session: $@\n";

sub must {
    my ($done, $what) = @_;
    die "$what: " . $smtp->code . ' ' . $smtp->message unless $done;
}

must($smtp->starttls(%trust), 'STARTTLS') if $ENV{SMTP_TLS} eq 'starttls';
must($smtp->auth($ENV{SMTP_USER}, $ENV{SMTP_PASSWORD}), 'AUTH') if $ENV{SMTP_USER};
must($smtp->mail($reverse_path, $ENV{SMTP_EIGHT_BIT} ? (Bits => '8') : ()), 'MAIL');
must($smtp->recipient($_), "RCPT $_") for @forward_paths;
must($smtp->data, 'DATA');
while (read($message, my $block, 65_536)) {
    must($smtp->datasend($block), 'mail data');
}
must($smtp->dataend, 'final dot');
$smtp->quit;
