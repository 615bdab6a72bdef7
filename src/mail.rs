//! Messages: the queue id, the header section, the trace fields (RFC 5322).
