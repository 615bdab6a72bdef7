//! What is done to every octet and every line: the mail data codec, the header editor, the command
//! parser.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use o365_relay::{
    mail::header::{HeaderEditor, Repair},
    smtp::{
        command::{self, CommandRules},
        mail_data::{Decoder, Encoder},
    },
};

const KIB: usize = 1024;

/// Lines of 76 characters, as attachments have them.
fn clean(octets: usize) -> Vec<u8> {
    let line = [b"x".repeat(76).as_slice(), b"\r\n"].concat();
    let mut data = line.repeat(octets / line.len());
    data.extend_from_slice(b".\r\n");
    data
}

/// The same with a stuffed dot on each line.
fn dotted(octets: usize) -> Vec<u8> {
    let line = [b"..".as_slice(), &b"x".repeat(74), b"\r\n"].concat();
    let mut data = line.repeat(octets / line.len());
    data.extend_from_slice(b".\r\n");
    data
}

fn mail_data(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mail data codec");
    for (name, data) in [
        ("4 KiB", clean(4 * KIB)),
        ("1 MiB", clean(KIB * KIB)),
        ("1 MiB of stuffed lines", dotted(KIB * KIB)),
    ] {
        group.throughput(Throughput::Bytes(data.len() as u64));
        let mut out = Vec::with_capacity(data.len());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut decoder = Decoder::default();
                let mut ended = false;
                // As the listener reads it.
                for chunk in data.chunks(32 * KIB) {
                    out.clear();
                    ended = decoder.decode(&mut black_box(chunk), &mut out);
                }
                assert!(ended);
            });
        });
    }
    for (name, data) in [
        ("1 MiB, sent", clean(KIB * KIB)),
        ("1 MiB of lines to be stuffed, sent", dotted(KIB * KIB)),
    ] {
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(name, |bencher| {
            let encode = |data| Encoder::default().encode(black_box(data));
            bencher.iter_batched(|| data.clone(), encode, BatchSize::LargeInput);
        });
    }
    group.finish();
}

const HEADER: &str = "Received: from a (b [192.0.2.1])\r\n\tby c; Mon, 1 Jan 2024 10:00:00 +0000\r\n\
    From: Reports <reports@contoso.com>\r\nTo: somebody@example.net\r\n\
    Subject: =?UTF-8?Q?Monthly_figures?=\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\n\
    Message-ID: <0123456789@contoso.com>\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=\"frontier\"\r\n\r\n";

fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header editor");
    let repair = Repair {
        from: Some("app@contoso.com".into()),
        date: "Mon, 1 Jan 2024 10:00:00 +0000".into(),
        message_id: "<id@relay>".into(),
    };
    for (name, text) in [("complete", HEADER.to_owned()), ("none", "just text\r\n".to_owned())] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut out = Vec::with_capacity(2 * KIB);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut editor = HeaderEditor::new(repair.clone());
                editor.push(black_box(text.as_bytes()), &mut out);
                editor.finish(&mut out)
            });
        });
    }
    group.finish();
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command parser");
    let rules = CommandRules { default_domain: None, sender: None, smtputf8: false, auth: false };
    for line in [
        "EHLO printer.contoso.com",
        "MAIL FROM:<app@contoso.com> SIZE=4096 BODY=8BITMIME",
        "RCPT TO:<somebody@example.net> NOTIFY=FAILURE,DELAY",
        "DATA",
    ] {
        let verb = line.split(' ').next().unwrap_or(line);
        group.bench_function(verb, |bencher| {
            bencher.iter(|| command::parse(black_box(line.as_bytes()), rules).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, mail_data, header, commands);
criterion_main!(benches);
