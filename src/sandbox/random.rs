//! What the sandbox draws by lot: ids that only have to differ, and secrets nobody may guess.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// A version 4 UUID, the form of every id that Microsoft hands out.
pub(super) fn guid() -> String {
    let bits = fastrand::u128(..);
    let bits = bits & !(0xf << 76) | (0x4 << 76); // RFC 9562 section 5.4: version
    let bits = bits & !(0x3 << 62) | (0x2 << 62); // and variant
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Sixteen hexadecimal digits, the form of the id in an Exchange greeting.
pub(super) fn trace_id() -> String {
    format!("{:016X}", fastrand::u64(..))
}

/// A client secret. It always holds characters that a form has to percent-encode, so that a
/// client which forgets to do so fails every time and not now and then.
pub(super) fn client_secret() -> String {
    let mut secret = unguessable::<24>();
    secret.insert_str(3, "8Q~");
    secret.push_str("+/=");
    secret
}

/// `N` octets of the operating system's randomness in URL-safe base64.
pub(super) fn unguessable<const N: usize>() -> String {
    let mut octets = [0; N];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut octets)
        .expect("the operating system's random source works");
    URL_SAFE_NO_PAD.encode(octets)
}

/// `count` hexadecimal digits.
pub(super) fn hex(count: usize) -> String {
    let mut digits = String::with_capacity(count);
    for _ in 0..count {
        let _ = write!(digits, "{:x}", fastrand::u8(0..16));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_the_form_of_a_version_4_uuid() {
        for _ in 0..100 {
            let guid = guid();
            let lengths: Vec<usize> = guid.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{guid}");
            assert_eq!(&guid[14..15], "4", "{guid}");
            assert!("89ab".contains(&guid[19..20]), "{guid}");
        }
    }

    #[test]
    fn secrets_differ_and_need_percent_encoding() {
        let (one, other) = (client_secret(), client_secret());
        assert_ne!(one, other);
        assert!(one.ends_with("+/=") && one.len() >= 32, "{}", one.len());
    }
}
