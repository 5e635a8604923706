# A client of hixie-76, by Perl's Protocol::WebSocket. Arguments: a port, and how many connections to make.
# Each line of the standard input is a text, in hexadecimal: it is sent on every connection, and what comes back is printed likewise;
# then, for each connection, "ended" once the closing handshake was answered.
use strict;
use warnings;

use IO::Socket::INET;
use Protocol::WebSocket::Frame;
use Protocol::WebSocket::Handshake::Client;

my ($port, $count) = @ARGV;
my $version = 'draft-ietf-hybi-00';
my @texts = map { chomp; pack 'H*', $_ } <STDIN>;

sub framed { Protocol::WebSocket::Frame->new(version => $version, buffer => $_[0], @_[1 .. $#_])->to_bytes }

for (1 .. $count) {
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 10) or die "connect: $!";
    my $handshake = Protocol::WebSocket::Handshake::Client->new(url => "ws://127.0.0.1:$port/a?b=c", version => $version);
    $handshake->req->origin("http://127.0.0.1:$port");
    my $out = $handshake->to_string . join '', map { framed($_) } @texts;
    while (length $out) {
        my $sent = syswrite $sock, $out or die "write: $!";
        substr $out, 0, $sent, '';
    }
    until ($handshake->is_done) {    # byte by byte: it takes no frames behind the answer
        sysread $sock, my $in, 1 or die 'the end in the handshake';
        $handshake->parse($in) or die $handshake->error;
    }
    my $frames = Protocol::WebSocket::Frame->new(version => $version, max_payload_size => 0);
    my $left = @texts;
    while (1) {
        while (defined(my $bytes = $frames->next_bytes)) {
            if ($frames->is_close) { print "ended\n"; $left = -1; last }
            print unpack('H*', $bytes), "\n";
            syswrite $sock, framed('', type => 'close') if !--$left;
        }
        last if $left < 0;
        sysread $sock, my $in, 65536 or die 'the end before the closing handshake';
        $frames->append($in);
    }
}
