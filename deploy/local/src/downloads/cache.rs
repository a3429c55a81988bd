//! A folder of finished downloads, shared by every stack of this user.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::progress::Progress;

/// The cache. An entry is a folder that appears complete or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's: `$RECWATCH_CACHE`, else `$XDG_CACHE_HOME/recwatch`, else `~/.cache/recwatch`.
    ///
    /// # Errors
    /// None of the variables (nor `HOME`) is set, or the folder cannot be made.
    pub(crate) fn of_user() -> Result<Cache> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("RECWATCH_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("recwatch")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/recwatch")))
            .context("there is no place for downloads: set RECWATCH_CACHE to a folder (HOME is not set either)")?;
        Cache::at(root)
    }

    /// A cache in a folder of its own.
    pub(crate) fn at(root: PathBuf) -> Result<Cache> {
        fs::create_dir_all(&root).with_context(|| {
            format!("the folder for downloads, {}, cannot be made: set RECWATCH_CACHE", root.display())
        })?;
        // Children run in other folders.
        let root = fs::canonicalize(&root)?;
        Ok(Cache { root })
    }

    /// The entry `name`; if there is none yet, `fill` puts its content into an empty folder, which then becomes the entry.
    /// When several processes ask at once, one fills and the others wait for it.
    ///
    /// # Errors
    /// That of `fill`; nothing of the attempt stays.
    pub(crate) fn get(
        &self,
        name: &str,
        step: &str,
        progress: &dyn Progress,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.root.join(name);
        if entry.is_dir() {
            return Ok(entry);
        }
        let lock_file = self.root.join(format!(".{name}.lock"));
        let lock = File::create(&lock_file).with_context(|| format!("{} cannot be made", lock_file.display()))?;
        if lock.try_lock().is_err() {
            progress.update(step, "waiting for the download by another process");
            lock.lock().with_context(|| format!("{} cannot be locked", lock_file.display()))?;
        }
        // Whoever held the lock may have filled it.
        if entry.is_dir() {
            return Ok(entry);
        }
        let unfinished = self.root.join(format!(".{name}.unfinished"));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("{} is in the way", unfinished.display()))?;
        }
        fs::create_dir(&unfinished)?;
        fill(&unfinished).with_context(|| format!("{name} could not be downloaded"))?;
        fs::rename(&unfinished, &entry)
            .with_context(|| format!("{} cannot become the cache's", unfinished.display()))?;
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::bail;

    use super::Cache;
    use crate::progress::Silent;

    #[test]
    fn two_who_ask_at_once_get_one_download() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache")).unwrap();
        let fills = AtomicUsize::new(0);
        let ask = || {
            cache.get("thing-1", "thing", &Silent, |directory| {
                fills.fetch_add(1, Ordering::SeqCst);
                std::fs::write(directory.join("file"), "content")?;
                Ok(())
            })
        };
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            for entry in asked {
                let entry = entry.join().unwrap().unwrap();
                assert_eq!(std::fs::read_to_string(entry.join("file")).unwrap(), "content");
            }
        });
        assert_eq!(fills.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_download_leaves_no_entry_and_the_next_starts_empty() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        let failed = cache.get("thing-1", "thing", &Silent, |directory| {
            std::fs::write(directory.join("half"), "")?;
            bail!("the line was cut")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("the line was cut"));
        assert!(!folder.path().join("thing-1").exists());
        let entry = cache
            .get("thing-1", "thing", &Silent, |directory| {
                assert_eq!(std::fs::read_dir(directory)?.count(), 0);
                Ok(())
            })
            .unwrap();
        assert!(entry.is_dir());
    }
}
