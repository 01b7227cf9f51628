//! The modules of a crate and which of them know which others, read from the source. Tests are left out: they may look
//! anywhere. Of a macro's arguments those are read that are expressions with commas between them, as most are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// A module's or an item's place in its crate, without the word `crate`.
pub(crate) type Name = Vec<String>;

/// What one file says.
struct Module {
    /// Below the crate's `src`.
    file: PathBuf,
    /// What it hands on, by the name that it gives to it.
    handed_on: BTreeMap<String, Name>,
    /// What it names.
    names: BTreeSet<Name>,
}

/// The modules of one crate.
pub(crate) struct Modules(BTreeMap<Name, Module>);

impl Modules {
    /// Reads a crate from its `lib.rs` or `main.rs` on.
    pub(crate) fn read(root: &Path) -> Modules {
        let mut modules = Modules(BTreeMap::new());
        modules.add(root.parent().expect("a file is in a directory"), root, Vec::new());
        modules
    }

    fn add(&mut self, source: &Path, file: &Path, name: Name) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader {
            module: &name,
            imports: BTreeMap::new(),
            read: Module {
                file: file.strip_prefix(source).expect("a module is below its crate").to_owned(),
                handed_on: BTreeMap::new(),
                names: BTreeSet::new(),
            },
        };
        // Imports first: the other paths begin with what they bring.
        parsed.items.iter().for_each(|item| reader.import(item));
        reader.visit_file(&parsed);
        self.0.insert(name.clone(), reader.read);
        for item in parsed.items {
            if let Item::Mod(ItemMod { attrs, ident, content: None, .. }) = item
                && !is_test(&attrs)
            {
                let child = [name.clone(), vec![ident.to_string()]].concat();
                let directory = child.iter().fold(source.to_owned(), |path, part| path.join(part));
                let file = [directory.with_extension("rs"), directory.join("mod.rs")];
                let file = file.iter().find(|file| file.exists()).expect("a module has a file");
                self.add(source, file, child);
            }
        }
    }

    /// The module that defines a name, however many others hand it on. `None` for a module, as what is taken from that
    /// is named elsewhere.
    fn home(&self, name: &[String]) -> Option<Name> {
        let mut module = Name::new();
        for (position, part) in name.iter().enumerate() {
            let child = [module.clone(), vec![part.clone()]].concat();
            if self.0.contains_key(&child) {
                module = child;
            } else if let Some(target) = self.0[&module].handed_on.get(part) {
                return self.home(&[target.clone(), name[position + 1..].to_vec()].concat());
            } else {
                return Some(module);
            }
        }
        None
    }

    /// Which file takes something from which others; a file's own parts are not told apart.
    pub(crate) fn edges(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        self.0
            .values()
            .map(|module| {
                let known = module.names.iter().filter_map(|name| self.home(name));
                let files = known.map(|home| self.0[&home].file.as_path());
                (module.file.as_path(), files.filter(|file| *file != module.file).collect())
            })
            .collect()
    }

    /// Files that know each other, directly or around.
    pub(crate) fn circles(&self) -> Vec<Vec<&Path>> {
        let edges = self.edges();
        let reach: BTreeMap<&Path, BTreeSet<&Path>> = edges
            .keys()
            .map(|&from| {
                let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
                while let Some(file) = open.pop() {
                    open.extend(edges[file].iter().filter(|next| seen.insert(**next)));
                }
                (from, seen)
            })
            .collect();
        let mut circles: Vec<Vec<&Path>> = Vec::new();
        for (&file, reached) in &reach {
            if reached.contains(file) && !circles.iter().flatten().any(|&known| known == file) {
                circles.push(reached.iter().copied().filter(|other| reach[other].contains(file)).collect());
            }
        }
        circles
    }
}

/// Finds what one module names.
struct Reader<'a> {
    module: &'a [String],
    /// By the names that they have here.
    imports: BTreeMap<String, Name>,
    read: Module,
}

impl Reader<'_> {
    fn import(&mut self, item: &Item) {
        if let Item::Use(ItemUse { attrs, vis, tree, .. }) = item
            && !is_test(attrs)
        {
            let mut leaves = Vec::new();
            collect(tree, Vec::new(), &mut leaves);
            for (alias, path) in leaves {
                let Some(name) = self.absolute(&path) else { continue };
                if matches!(vis, Visibility::Inherited) {
                    self.imports.insert(alias, name.clone());
                    self.read.names.insert(name);
                } else {
                    // A door: who comes through it knows what is behind.
                    self.read.handed_on.insert(alias, name);
                }
            }
        }
    }

    /// A path as seen from the crate's root; `None` for what other crates have.
    fn absolute(&self, path: &[String]) -> Option<Name> {
        let (first, rest) = path.split_first()?;
        let from = |base: &[String]| Some([base, rest].concat());
        match first.as_str() {
            "crate" => from(&[]),
            "self" => from(self.module),
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                let base = self.module.len().checked_sub(supers)?;
                Some([&self.module[..base], &path[supers..]].concat())
            }
            alias => match self.imports.get(alias) {
                Some(name) => Some([name, rest].concat()),
                // A child module, perhaps; else of another crate or of this file.
                None => Some([self.module, path].concat()),
            },
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            // Those of the file were read before; this is one inside of a function or the like.
            Item::Use(_) => return self.import(item),
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let arguments = syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        if let Ok(arguments) = call.parse_body_with(arguments) {
            // They do not outlive this call, so that a reader of their own takes the names.
            let mut reader = Reader {
                module: self.module,
                imports: self.imports.clone(),
                read: Module { file: PathBuf::new(), handed_on: BTreeMap::new(), names: BTreeSet::new() },
            };
            arguments.iter().for_each(|argument| reader.visit_expr(argument));
            self.read.names.append(&mut reader.read.names);
        }
        visit::visit_macro(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Name = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1
            && path.leading_colon.is_none()
            && let Some(name) = self.absolute(&parts)
        {
            self.read.names.insert(name);
        }
        visit::visit_path(self, path);
    }
}

/// The leaves of a `use`, each with the name that it has here.
fn collect(tree: &UseTree, mut path: Name, leaves: &mut Vec<(String, Name)>) {
    match tree {
        UseTree::Path(branch) => {
            path.push(branch.ident.to_string());
            collect(&branch.tree, path, leaves);
        }
        UseTree::Name(leaf) => {
            if leaf.ident != "self" {
                path.push(leaf.ident.to_string());
            }
            leaves.push((path.last().expect("a leaf has a name").clone(), path));
        }
        UseTree::Rename(leaf) => {
            path.push(leaf.ident.to_string());
            leaves.push((leaf.rename.to_string(), path));
        }
        UseTree::Glob(_) => {
            path.push("*".to_owned());
            leaves.push(("*".to_owned(), path));
        }
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| collect(tree, path.clone(), leaves));
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
    })
}
