//! Makes the vendored `protoc` part of this build, so that cargo downloads it before it compiles
//! `etcd-client` (see `.cargo/protoc`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Unsupported platforms fall back on the `protoc` of the PATH, so a missing one is no error.
    if let Err(missing) = protoc_bin_vendored::protoc_bin_path() {
        println!("cargo:warning=no vendored protoc for this platform: {missing}");
    }
}
