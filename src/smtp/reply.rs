//! Replies (RFC 5321 section 4.2) and enhanced status codes (RFC 3463).
