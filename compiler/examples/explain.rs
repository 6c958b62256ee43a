//! Optimises a model and prints what the rules did: `explain FILE [OUT.agir]`.

use autoglm_compiler::import::{ImportOptions, import};
use autoglm_compiler::onnx::file;
use autoglm_passes::{CANONICALISE, Options, egraph, run};
use std::collections::BTreeMap;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("which file?")?;
    let import_options = ImportOptions::default();
    let mut model =
        file::open(std::path::Path::new(&file), &import_options.limits).map_err(|e| format!("{e:?}"))?;
    let graph = import(&mut model, &import_options).map_err(|e| format!("{:?}", e[0]))?.graph;
    let options = Options::default();
    let graph = run(&CANONICALISE, &graph, &options)?;
    let start = std::time::Instant::now();
    let (graph, said) = egraph::explain(&graph, &options)?;
    let took = start.elapsed();
    let graph = run(&CANONICALISE, &graph, &options)?;
    for (rule, activity) in &said.activities.rules {
        println!("{rule}: {} {:?} {:?}", activity.fired, activity.refused, activity.near);
    }
    println!(
        "{} rounds, {} nodes, saturated {}, merged {}, skipped {:?}, cost {:?}",
        said.activities.rounds,
        said.activities.nodes,
        said.activities.saturated,
        said.merged,
        said.skipped,
        said.cost
    );
    let mut ops = BTreeMap::new();
    for node in &graph.nodes {
        *ops.entry(node.op.name()).or_insert(0) += 1;
    }
    println!("{ops:?}\n{took:?}");
    if let Some(out) = std::env::args().nth(2) {
        std::fs::write(out, autoglm_ir::text::print(&graph))?;
    }
    Ok(())
}
