//! Recordings: NDJSON files, plain or gz, one event a line, and generated ones, which are read alike.

mod feed;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

use serde::Serialize;

use crate::generator::{Catalogue, DEMO_LENGTH, Event, Generator, ItemVectors, Shape, UserVectors, Vector};

pub use feed::{Feed, Origin};

/// What the lines of a recording are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// Interactions of shoppers.
    Interactions,
    /// New vectors of items.
    ItemEmbeddings,
    /// New vectors of users.
    UserEmbeddings,
}

impl Content {
    /// All contents.
    pub const ALL: [Self; 3] = [Self::Interactions, Self::ItemEmbeddings, Self::UserEmbeddings];

    /// The topic that such lines are published to.
    #[must_use]
    pub fn topic(self) -> &'static str {
        match self {
            Self::Interactions => "recsys.interactions.v1",
            Self::ItemEmbeddings => "recsys.embeddings.item.v1",
            Self::UserEmbeddings => "recsys.embeddings.user.v1",
        }
    }

    /// What they are called in few words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactions => "clicks",
            Self::ItemEmbeddings => "items",
            Self::UserEmbeddings => "users",
        }
    }

    /// The field that is the record's key.
    #[must_use]
    pub fn key_field(self) -> &'static str {
        match self {
            Self::Interactions => "session_id",
            Self::ItemEmbeddings | Self::UserEmbeddings => "entity_id",
        }
    }
}

/// One recording, read line by line.
pub struct Recording {
    name: String,
    content: Content,
    lines: Lines,
    number: u64,
}

/// Appends the next line; `None` at the end.
type WriteLine = dyn FnMut(&mut Vec<u8>) -> Option<serde_json::Result<()>> + Send;

enum Lines {
    File(Box<dyn BufRead + Send>),
    Generated(Box<WriteLine>),
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("name", &self.name).field("number", &self.number).finish_non_exhaustive()
    }
}

impl Recording {
    /// Opens a file; whether it is compressed is told from its first bytes, not from its name.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub fn open(path: &Path, content: Content) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("the recording {} cannot be opened", path.display()))?;
        Self::from_reader(&path.display().to_string(), content, file)
    }

    /// A recording out of any reader.
    ///
    /// # Errors
    /// Its first bytes cannot be read.
    pub fn from_reader(name: &str, content: Content, reader: impl Read + Send + 'static) -> Result<Self> {
        const MAGIC: [u8; 2] = [0x1f, 0x8b];
        let mut reader = BufReader::with_capacity(1 << 18, reader);
        let compressed = reader.fill_buf().with_context(|| format!("{name} cannot be read"))?.starts_with(&MAGIC);
        let lines: Box<dyn BufRead + Send> = if compressed {
            Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(reader)))
        } else {
            Box::new(reader)
        };
        Ok(Self { name: name.to_owned(), content, lines: Lines::File(lines), number: 0 })
    }

    /// Interactions out of the generator: `records` of them, or those of the demo's event time.
    #[must_use]
    pub fn generated(shape: Shape, records: Option<u64>) -> Self {
        let end = shape.start + DEMO_LENGTH;
        let generator = Generator::new(shape);
        let events: Box<dyn Iterator<Item = Event> + Send> = match records {
            Some(records) => Box::new(generator.take(usize::try_from(records).unwrap_or(usize::MAX))),
            None => Box::new(generator.take_while(move |event| event.event_time < end)),
        };
        Self::made("generated interactions", Content::Interactions, events)
    }

    /// The demo's vectors of users.
    #[must_use]
    pub fn generated_users(shape: &Shape) -> Self {
        Self::demo("generated vectors of users", Content::UserEmbeddings, shape, UserVectors::demo(shape))
    }

    /// The demo's vectors of items.
    #[must_use]
    pub fn generated_items(shape: &Shape) -> Self {
        Self::demo("generated vectors of items", Content::ItemEmbeddings, shape, ItemVectors::new(shape))
    }

    /// So many vectors of users, in about two hours of event time.
    #[must_use]
    pub fn generated_user_load(shape: &Shape, records: u64) -> Self {
        let vectors = UserVectors::load(shape, records).take(usize::try_from(records).unwrap_or(usize::MAX));
        Self::made("generated vectors of users", Content::UserEmbeddings, vectors)
    }

    /// One vector of each item that the shape's shoppers meet, before the first of them comes.
    #[must_use]
    pub fn generated_catalogue(shape: &Shape) -> Self {
        Self::made("generated vectors of a catalogue", Content::ItemEmbeddings, Catalogue::new(shape))
    }

    fn demo(
        name: &str,
        content: Content,
        shape: &Shape,
        vectors: impl Iterator<Item = Vector> + Send + 'static,
    ) -> Self {
        let end = shape.start + DEMO_LENGTH;
        Self::made(name, content, vectors.take_while(move |vector| vector.event_time < end))
    }

    /// A recording of these events.
    pub(crate) fn made<T: Serialize>(
        name: &str,
        content: Content,
        mut events: impl Iterator<Item = T> + Send + 'static,
    ) -> Self {
        let write = move |line: &mut Vec<u8>| Some(serde_json::to_writer(line, &events.next()?));
        Self { name: name.to_owned(), content, lines: Lines::Generated(Box::new(write)), number: 0 }
    }

    /// What its lines are.
    #[must_use]
    pub fn content(&self) -> Content {
        self.content
    }

    /// How messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the next line into `line`, without its line feed; its number, counted from 1, or `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read on, or its compression is damaged.
    pub fn next_line(&mut self, line: &mut Vec<u8>) -> Result<Option<u64>> {
        line.clear();
        let found = match &mut self.lines {
            Lines::File(reader) => {
                let read = reader.read_until(b'\n', line);
                let read = read.with_context(|| format!("{} cannot be read after line {}", self.name, self.number))?;
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                read > 0
            }
            Lines::Generated(write) => match write(line) {
                Some(written) => {
                    written.context("a generated event is no JSON")?;
                    true
                }
                None => false,
            },
        };
        self.number += u64::from(found);
        Ok(found.then_some(self.number))
    }

    /// Writes all lines to a file, compressed if its name ends in `.gz`; how many.
    ///
    /// # Errors
    /// Reading or writing fails.
    pub fn write_to(mut self, path: &Path) -> Result<u64> {
        let unwritable = || format!("{} cannot be written", path.display());
        let file = File::create(path).with_context(unwritable)?;
        let mut file: Box<dyn Finish> = if path.extension().is_some_and(|extension| extension == "gz") {
            Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::new(6)))
        } else {
            Box::new(std::io::BufWriter::with_capacity(1 << 18, file))
        };
        let mut line = Vec::new();
        while self.next_line(&mut line)?.is_some() {
            line.push(b'\n');
            file.write_all(&line).with_context(unwritable)?;
        }
        file.finish().with_context(unwritable)?;
        Ok(self.number)
    }
}

/// A writer whose end must be written out.
trait Finish: Write {
    fn finish(&mut self) -> std::io::Result<()>;
}

impl Finish for flate2::write::GzEncoder<File> {
    fn finish(&mut self) -> std::io::Result<()> {
        self.try_finish()
    }
}

impl Finish for std::io::BufWriter<File> {
    fn finish(&mut self) -> std::io::Result<()> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut recording: Recording) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while let Some(number) = recording.next_line(&mut line).unwrap() {
            lines.push((number, line.clone()));
        }
        lines
    }

    fn bytes(content: &[u8]) -> Recording {
        Recording::from_reader("test", Content::Interactions, std::io::Cursor::new(content.to_vec())).unwrap()
    }

    #[test]
    fn every_line_is_a_record_empty_and_broken_ones_and_one_without_a_line_feed_too() {
        let lines = all(bytes(b"{}\n\n\xff\xfe\r\nend"));
        let expected: [(u64, &[u8]); 4] = [(1, b"{}"), (2, b""), (3, b"\xff\xfe\r"), (4, b"end")];
        assert_eq!(lines, expected.map(|(number, line)| (number, line.to_vec())));
        assert!(all(bytes(b"")).is_empty());
    }

    #[test]
    fn a_compressed_recording_reads_like_a_plain_one_even_in_several_members() {
        let mut compressed = Vec::new();
        for part in ["one\ntw", "o\nthree\n"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            compressed.extend(encoder.finish().unwrap());
        }
        assert_eq!(all(bytes(&compressed)), all(bytes(b"one\ntwo\nthree\n")));
    }

    #[test]
    fn a_generated_recording_that_was_written_to_a_file_reads_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let generated = || Recording::generated(Shape::load(1, 0, 500), Some(500));
        let expected = all(generated());
        assert_eq!(expected.len(), 500);
        for name in ["a.ndjson", "a.ndjson.gz"] {
            let path = folder.path().join(name);
            assert_eq!(generated().write_to(&path).unwrap(), 500);
            assert_eq!(all(Recording::open(&path, Content::Interactions).unwrap()), expected);
        }
    }
}
