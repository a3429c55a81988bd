//! Java artifacts by Maven.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::download;
use crate::prerequisites::Tools;
use crate::processes::Launch;
use crate::progress::Progress;

/// Named with its version, so that every machine runs the same one.
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";
/// For a single archive: newer versions insist on its parent's description, which need not be there.
const UNPACKING_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8";
const DEADLINE: Duration = Duration::from_secs(900);

/// A project file that does nothing but depend on these (group, artifact, version).
pub(super) fn pom(dependencies: &[(&str, &str, &str)]) -> String {
    let dependencies: String = dependencies
        .iter()
        .map(|(group, artifact, version)| {
            format!(
                "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
                 <version>{version}</version></dependency>\n"
            )
        })
        .collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>recwatch</groupId>\n  <artifactId>local-stack</artifactId>\n  <version>1</version>\n  \
         <packaging>pom</packaging>\n  <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )
}

/// Puts the jars that `pom` depends on into `directory/libs`.
pub(super) fn copy_dependencies(tools: &Tools, pom: &str, directory: &Path, progress: &dyn Progress) -> Result<()> {
    fs::write(directory.join("pom.xml"), pom)?;
    let output = directory.join("libs");
    let arguments = vec!["-DincludeScope=runtime".into(), define("outputDirectory", output.as_os_str())];
    run(tools, directory, &format!("{PLUGIN}:copy-dependencies"), arguments, progress)
}

/// Unpacks one archive (group:artifact:version:type:classifier) into `directory`.
pub(super) fn unpack(tools: &Tools, artifact: &str, directory: &Path, progress: &dyn Progress) -> Result<()> {
    let arguments = vec![define("artifact", artifact.as_ref()), define("outputDirectory", directory.as_os_str())];
    run(tools, directory, &format!("{UNPACKING_PLUGIN}:unpack"), arguments, progress)
}

fn define(key: &str, value: &std::ffi::OsStr) -> OsString {
    let mut argument = OsString::from(format!("-D{key}="));
    argument.push(value);
    argument
}

fn run(tools: &Tools, directory: &Path, goal: &str, arguments: Vec<OsString>, progress: &dyn Progress) -> Result<()> {
    let fixed = ["--batch-mode", "--quiet"].into_iter().map(OsString::from);
    let launch = Launch {
        name: "Maven".to_owned(),
        program: tools.maven.clone(),
        arguments: fixed.chain([goal.into()]).chain(arguments).collect(),
        directory: Some(directory.to_owned()),
        log: directory.join("maven.log"),
        ..Launch::default()
    };
    download(&launch, DEADLINE, progress)
}
