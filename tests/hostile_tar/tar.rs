//! Archives, block by block.

/// Builds an archive out of blocks, true or false.
#[derive(Default, Clone)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    /// A header, its checksum right, with `size` as said and `data` as it is.
    pub(crate) fn entry(self, kind: u8, name: &[u8], link: &[u8], data: &[u8]) -> Self {
        self.lying(kind, name, link, data.len() as u64, data)
    }

    pub(crate) fn lying(self, kind: u8, name: &[u8], link: &[u8], size: u64, data: &[u8]) -> Self {
        self.block(header(kind, name, link, size)).data(data)
    }

    pub(crate) fn block(mut self, mut block: [u8; 512]) -> Self {
        seal(&mut block);
        self.0.extend(block);
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", b"data")
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    pub(crate) fn symlink(self, name: &str, to: &str) -> Self {
        self.entry(b'2', name.as_bytes(), to.as_bytes(), b"")
    }

    pub(crate) fn hardlink(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name.as_bytes(), to.as_bytes(), b"")
    }

    pub(crate) fn device(self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        let mut block = header(kind, name.as_bytes(), b"", 0);
        block[329..336].copy_from_slice(format!("{major:07o}").as_bytes());
        block[337..344].copy_from_slice(format!("{minor:07o}").as_bytes());
        self.block(block)
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (1..20).map(|digits| rest + digits).find(|len| len.to_string().len() == len - rest).unwrap();
            body.extend(format!("{len} {key}=").as_bytes());
            body.extend(*value);
            body.push(b'\n');
        }
        self.entry(b'x', b"PaxHeaders/x", b"", &body)
    }

    /// An old GNU sparse file: one run in the header.
    pub(crate) fn old_sparse(self, name: &str, offset: u64, len: u64, real: u64, data: &[u8]) -> Self {
        let mut block = header(b'S', name.as_bytes(), b"", data.len() as u64);
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..].fill(0);
        block[386..397].copy_from_slice(format!("{offset:011o}").as_bytes());
        block[398..409].copy_from_slice(format!("{len:011o}").as_bytes());
        block[483..494].copy_from_slice(format!("{real:011o}").as_bytes());
        self.block(block).data(data)
    }

    /// A sparse file of version 1.0: a block with the map, and the data.
    pub(crate) fn mapped(self, name: &str, real: &[u8], map: &[u8], data: &[u8]) -> Self {
        let mut body = map.to_vec();
        body.resize(512, 0);
        body.extend(data);
        self.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", real)]).entry(
            b'0',
            name.as_bytes(),
            b"",
            &body,
        )
    }

    /// As before POSIX: nothing behind the link's name.
    pub(crate) fn v7(self, kind: u8, name: &str, data: &[u8]) -> Self {
        let mut block = header(kind, name.as_bytes(), b"", data.len() as u64);
        block[257..].fill(0);
        self.block(block).data(data)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    // Whoever runs the tests must be able to enter what is unpacked.
    block[100..108].copy_from_slice(b"0000755\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size < 8 << 30 {
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    block
}

pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
