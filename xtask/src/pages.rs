//! Holds the pages against the tree: files they link to, tests they name, the example they show.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The first job must run in fewer lines than this, empty ones not counted.
const LINES_OF_FIRST_JOB: usize = 15;

/// A page and what is written on it.
struct Page {
    path: PathBuf,
    text: String,
}

/// Everything that a page names and that is not there, as a sentence each.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn violations(root: &Path) -> Result<Vec<String>> {
    let files = files(root)?;
    let words = words(&files)?;
    let code_lines = code_lines(&files)?;
    let mut found = Vec::new();
    for page in pages(&files)? {
        let shown = page.path.strip_prefix(root).unwrap_or(&page.path).display();
        let folder = page.path.parent().unwrap_or(root);
        let links = links(&page.text).into_iter().filter(|link| !folder.join(link).exists());
        found.extend(links.map(|link| format!("{shown} links to {link}, which is not there")));
        let names = code(&page.text).into_iter().filter(|name| is_sentence(name));
        let missing = names.filter(|name| !words.contains(*name));
        found.extend(missing.map(|name| format!("{shown} names {name}, which is nowhere in the code")));
        let uncompiled =
            uncompiled_blocks(&page.text).into_iter().filter(|block| !stands_in(block, &code_lines));
        let first_lines = uncompiled.filter_map(|block| block.lines().next());
        found.extend(first_lines.map(|line| format!("{shown} shows code that no file has: {line}")));
    }
    let example = |path: &str| -> Result<Option<String>> {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?;
        Ok(first_rust_block(&text))
    };
    // The facade's page is its documentation, where the example is compiled.
    let first_job = example("README.md")?;
    if first_job != example("jobrunr/README.md")? {
        found.push("the first example of README.md is not that of jobrunr/README.md".to_owned());
    }
    found.extend(too_long(&first_job.unwrap_or_default()));
    Ok(found)
}

/// What is wrong with the length of the first example, if anything is.
fn too_long(first_job: &str) -> Option<String> {
    let lines = first_job.lines().filter(|line| !line.trim().is_empty()).count();
    let is_right = (1..LINES_OF_FIRST_JOB).contains(&lines);
    (!is_right).then(|| {
        format!("the first example of README.md has {lines} lines; some, and fewer than {LINES_OF_FIRST_JOB}, are right")
    })
}

/// Every file of the repository but those that are built.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn with_extension<'a>(files: &'a [PathBuf], extension: &'a str) -> impl Iterator<Item = &'a PathBuf> {
    files.iter().filter(move |file| file.extension().is_some_and(|found| found == extension))
}

fn pages(files: &[PathBuf]) -> Result<Vec<Page>> {
    with_extension(files, "md")
        .map(|path| {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Ok(Page { path: path.clone(), text })
        })
        .collect()
}

/// Every word of the code that could be the name of a test.
fn words(files: &[PathBuf]) -> Result<HashSet<String>> {
    let mut words = HashSet::new();
    for path in with_extension(files, "rs") {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let of_file = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.extend(of_file.filter(|word| is_sentence(word)).map(str::to_owned));
    }
    Ok(words)
}

/// The lines of each file of code, without indentation: no page's examples, which are in comments.
fn code_lines(files: &[PathBuf]) -> Result<Vec<Vec<String>>> {
    with_extension(files, "rs")
        .map(|path| {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Ok(text.lines().map(|line| line.trim().to_owned()).collect())
        })
        .collect()
}

/// The blocks of Rust that nobody compiles.
fn uncompiled_blocks(text: &str) -> Vec<&str> {
    let blocks = text.split("```rust,ignore\n").skip(1);
    blocks.filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect()
}

/// Whether a block stands in a file that is compiled, line by line; empty lines part it into pieces that may be apart there.
fn stands_in(block: &str, files: &[Vec<String>]) -> bool {
    let pieces: Vec<Vec<&str>> =
        block.split("\n\n").map(|piece| piece.lines().map(str::trim).collect()).collect();
    let has = |file: &[String], piece: &[&str]| file.windows(piece.len().max(1)).any(|lines| lines == piece);
    files.iter().any(|file| pieces.iter().all(|piece| has(file, piece)))
}

/// The files of this repository that a page links to, relative to it.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty() && !file.contains("://") && !file.contains("::")).collect()
}

/// What stands between single backticks, outside of blocks of code.
fn code(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// Whether this is how tests are named: words in lower case, four or more.
fn is_sentence(name: &str) -> bool {
    name.matches('_').count() >= 3
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// The first block of Rust on a page, without the lines that documentation hides.
fn first_rust_block(text: &str) -> Option<String> {
    let (_, block) = text.split_once("```rust")?;
    let (_, block) = block.split_once('\n')?;
    let (block, _) = block.split_once("```")?;
    let shown = block.lines().filter(|line| !line.starts_with("# ") && *line != "#");
    Some(shown.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_files_are_held_against_the_tree() {
        let text = "[a](docs/a.md#part) [b](https://example.org) [c](#here) [d](crate::D) [e](../e.rs)";

        assert_eq!(links(text), ["docs/a.md", "../e.rs"]);
    }

    #[test]
    fn a_name_is_a_sentence_from_four_words_on() {
        let text = "`a_test_of_this` and `save_jobs`\n```text\n`not_a_name_here`\n```\n`REQUIRE_ALL_OF_IT`";

        let names: Vec<_> = code(text).into_iter().filter(|name| is_sentence(name)).collect();

        assert_eq!(names, ["a_test_of_this"]);
    }

    #[test]
    fn hidden_lines_are_no_part_of_the_example() {
        let page = "# Page\n```rust,no_run\n# hidden();\nshown();\n#[attribute]\n#\n```\n```rust\nother\n```";

        assert_eq!(first_rust_block(page).as_deref(), Some("shown();\n#[attribute]"));
        assert_eq!(first_rust_block("no code"), None);
    }

    #[test]
    fn a_first_job_of_fifteen_lines_is_too_long_and_empty_lines_do_not_count() {
        let of = |lines: usize| too_long(&"line\n\n".repeat(lines));

        assert_eq!(of(LINES_OF_FIRST_JOB - 1), None);
        assert!(of(LINES_OF_FIRST_JOB).is_some_and(|found| found.contains("has 15 lines")));
        assert!(of(0).is_some(), "a page without an example shows no first job");
    }

    #[test]
    fn a_block_that_nobody_compiles_must_stand_in_a_file_that_is() {
        let page = "```rust,ignore\nlet a = 1;\n\n    let b = 2;\n```\n```rust\ncompiled();\n```";
        let file = ["fn f() {", "let a = 1;", "other();", "let b = 2;", "}"].map(str::to_owned).to_vec();

        let blocks = uncompiled_blocks(page);

        assert_eq!(blocks.len(), 1);
        assert!(stands_in(blocks[0], std::slice::from_ref(&file)));
        assert!(!stands_in("let a = 2;\n", std::slice::from_ref(&file)));
        assert!(!stands_in("let a = 1;\nlet b = 2;\n", &[file]));
    }

    #[test]
    fn the_tests_of_this_file_are_words_of_the_code() {
        let words = words(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages.rs")]).unwrap();

        assert!(words.contains("the_tests_of_this_file_are_words_of_the_code"));
        assert!(!words.contains(&["a_test", "that_is_not_there"].join("_")));
    }

    #[test]
    fn what_is_built_and_what_is_hidden_is_passed_over() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();

        let files = files(root).unwrap();

        assert!(files.contains(&root.join("xtask/src/pages.rs")));
        assert!(
            files.iter().all(|file| {
                !file.starts_with(root.join("target")) && !file.starts_with(root.join(".git"))
            })
        );
    }
}
