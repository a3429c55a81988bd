//! Reading the end of log files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// No tail is longer than this, in bytes.
const LONGEST: u64 = 64 * 1024;

/// The last `lines` lines of a file, or a sentence saying why there are none.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    match read_end(file) {
        Ok(text) if text.trim().is_empty() => format!("({} is empty)", file.display()),
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", file.display()),
    }
}

fn read_end(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_tail_is_the_last_lines_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail(file.path(), 2), "two\nthree");
        assert_eq!(tail(file.path(), 9), "one\ntwo\nthree");
    }

    #[test]
    fn an_empty_or_missing_log_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("silent.log");
        assert!(tail(&file, 3).contains("cannot be read"));
        std::fs::write(&file, "").unwrap();
        assert!(tail(&file, 3).contains("is empty"));
    }
}
