//! Texts that are said to be schemas.

use records::inspect::Judged;

use crate::counting::assert_bounded;

#[test]
fn any_text_is_a_bounded_schema_or_refused() {
    crate::fuzz("schema_texts", |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(judged) = Judged::parse(text, &[])
            && judged.is_linear()
        {
            for datum in [&[][..], &[0; 40], &[2; 40], &[1; 40], &[0xff; 40]] {
                assert_bounded(&judged, datum);
            }
        }
    });
}
