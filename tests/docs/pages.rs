//! The pages: every Markdown file of the repository, and what can be found in one. It judges nothing.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A Markdown file.
pub(crate) struct Page {
    /// From the repository's directory on.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Where a link or a picture leads.
pub(crate) struct Link {
    pub(crate) target: String,
    /// The words of a picture.
    pub(crate) picture: Option<String>,
}

/// A fenced block.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    /// Why it is not run, if a comment before it says so.
    pub(crate) not_run: Option<String>,
}

/// A row of a table, cell by cell; in a cell, code and text, in their order.
pub(crate) type Row = Vec<Vec<Piece>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Code(String),
    Text(String),
}

impl Page {
    pub(crate) fn read(path: impl AsRef<Path>) -> Page {
        let path = path.as_ref().to_owned();
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Page { path, text }
    }

    /// Every page of the repository.
    pub(crate) fn all() -> Vec<Page> {
        let mut pages: Vec<Page> =
            files(Path::new("")).into_iter().filter(|path| is_markdown(path)).map(Page::read).collect();
        pages.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(pages.len() >= 15, "expected the repository's pages, got {}", pages.len());
        pages
    }

    /// All pages but the results of measurements, which stay as they were written on their day.
    pub(crate) fn all_kept() -> Vec<Page> {
        Page::all().into_iter().filter(|page| !page.path.starts_with("perf/results")).collect()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES).into_offset_iter()
    }

    /// What a link may name after `#`: as the usual forges make it of headings.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        let mut heading: Option<String> = None;
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().expect("a heading began"));
                    let another = (1..).map(|number| format!("{anchor}-{number}"));
                    let free =
                        std::iter::once(anchor.clone()).chain(another).find(|name| !anchors.contains(name));
                    anchors.extend(free);
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        anchors
    }

    /// Links and pictures, those of embedded HTML too.
    pub(crate) fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        let mut picture: Option<String> = None;
        let mut targets = Vec::new();
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Link { dest_url, .. }) => {
                    links.push(Link { target: dest_url.to_string(), picture: None });
                }
                Event::Start(Tag::Image { dest_url, .. }) => {
                    targets.push(dest_url.to_string());
                    picture = Some(String::new());
                }
                Event::End(TagEnd::Image) => {
                    links.push(Link {
                        target: targets.pop().expect("a picture began"),
                        picture: picture.take(),
                    });
                }
                Event::Text(text) => {
                    if let Some(words) = &mut picture {
                        words.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => links.extend(html_links(&html)),
                _ => {}
            }
        }
        links
    }

    /// Fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut comment = String::new();
        let mut open: Option<Block> = None;
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::HtmlBlock) => comment.clear(),
                Event::Html(html) => comment.push_str(&html),
                Event::End(TagEnd::HtmlBlock) => {}
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                    let not_run = comment.trim().strip_prefix("<!-- not run: ");
                    let not_run = not_run.and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
                    comment.clear();
                    open = Some(Block { language: language.to_string(), text: String::new(), not_run });
                }
                Event::Text(text) if open.is_some() => open.as_mut().unwrap().text.push_str(&text),
                Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
                _ => comment.clear(),
            }
        }
        blocks
    }

    /// The rows of all tables below the heading `heading` and the headings below that, without the tables' heads.
    pub(crate) fn rows(&self, heading: &str) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let (mut level_inside, mut level, mut title) = (None, None, String::new());
        let mut row: Option<Row> = None;
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Heading { level: found, .. }) => {
                    level = Some(found);
                    title.clear();
                }
                Event::End(TagEnd::Heading(found)) => {
                    level = None;
                    if title == heading {
                        level_inside = Some(found);
                    } else if level_inside.is_some_and(|inside| found <= inside) {
                        level_inside = None;
                    }
                }
                Event::Start(Tag::TableRow) if level_inside.is_some() => row = Some(Vec::new()),
                Event::End(TagEnd::TableRow) => rows.extend(row.take()),
                Event::Start(Tag::TableCell) => {
                    if let Some(row) = &mut row {
                        row.push(Vec::new());
                    }
                }
                Event::Code(text) => match &mut row {
                    Some(row) => row.last_mut().expect("a cell").push(Piece::Code(text.to_string())),
                    None => title.push_str(&text),
                },
                Event::Text(text) => match &mut row {
                    Some(row) => row.last_mut().expect("a cell").push(Piece::Text(text.to_string())),
                    None if level.is_some() => title.push_str(&text),
                    None => {}
                },
                _ => {}
            }
        }
        assert!(!rows.is_empty(), "{}: expected tables below {heading:?}", self.path.display());
        rows
    }
}

/// The pieces of code in a cell.
pub(crate) fn code(cell: &[Piece]) -> Vec<&str> {
    cell.iter()
        .filter_map(|piece| match piece {
            Piece::Code(text) => Some(text.as_str()),
            Piece::Text(_) => None,
        })
        .collect()
}

/// A cell as it is read.
pub(crate) fn words(cell: &[Piece]) -> String {
    cell.iter()
        .map(|piece| match piece {
            Piece::Code(text) | Piece::Text(text) => text.as_str(),
        })
        .collect()
}

/// The repository's files below `directory`, without what builds, runs and tools leave there.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let here = if directory == Path::new("") { Path::new(".") } else { directory };
    for entry in std::fs::read_dir(here).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let path = directory.join(&name);
        let name = name.to_str().expect("names in UTF-8");
        let left = ["target", "data"].contains(&name) || path == Path::new("stress-test/results");
        if left || (name.starts_with('.') && name != ".github") {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|sign| sign.is_alphanumeric() || [' ', '-', '_'].contains(sign));
    kept.flat_map(char::to_lowercase).map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}

/// The links and pictures of a piece of HTML.
fn html_links(html: &str) -> Vec<Link> {
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    html.split('<')
        .filter_map(|tag| match tag.split([' ', '>']).next()? {
            "a" => Some(Link { target: attribute(tag, "href")?, picture: None }),
            "img" => Some(Link {
                target: attribute(tag, "src")?,
                picture: Some(attribute(tag, "alt").unwrap_or_default()),
            }),
            "source" => Some(Link { target: attribute(tag, "srcset")?, picture: None }),
            _ => None,
        })
        .collect()
}

#[test]
fn a_page_is_read_as_it_is_shown() {
    let text = "# A `b`, C-d é\n\n## Same\n\n## Same\n\n[x](y.md#z) ![words](p.png)\n\n\
                <picture>\n  <source srcset=\"d.png\">\n  <img alt=\"w\" src=\"l.png\">\n</picture>\n\n\
                <!-- not run: why -->\n```sh\nmake x\n```\n\n```sh\nmake y\n```\n\n\
                ## Table\n\n| a | b |\n|---|---|\n| `c` and d | e |\n\n### Below\n\n| a |\n|---|\n| f |\n\n## Other\n\n| a |\n|---|\n| g |\n";
    let page = Page { path: "x.md".into(), text: text.to_owned() };
    let anchors = ["a-b-c-d-é", "below", "other", "same", "same-1", "table"];
    assert_eq!(page.anchors().into_iter().collect::<Vec<_>>(), anchors);
    let links = page.links();
    let links: Vec<_> = links.iter().map(|link| (link.target.as_str(), link.picture.as_deref())).collect();
    let expected = [("y.md#z", None), ("p.png", Some("words")), ("d.png", None), ("l.png", Some("w"))];
    assert_eq!(links, expected);
    let blocks = page.blocks();
    let blocks: Vec<_> = blocks.iter().map(|block| (&*block.text, block.not_run.as_deref())).collect();
    assert_eq!(blocks, [("make x\n", Some("why")), ("make y\n", None)]);
    let rows = page.rows("Table");
    assert_eq!(rows.iter().map(|row| words(&row[0])).collect::<Vec<_>>(), ["c and d", "f"]);
    assert_eq!(code(&rows[0][0]), ["c"]);
}
